#ifndef TENON_H
#define TENON_H 
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
#define TN_VERSION 100
#define TN_MAX_RANK 8
typedef int32_t tn_status;
enum {
  TN_OK = 0,
  TN_ERROR_ARGUMENT = 1,
  TN_ERROR_SHAPE = 2,
  TN_ERROR_NOT_FOUND = 3,
  TN_ERROR_GRAPH = 4,
  TN_ERROR_IO = 5,
  TN_ERROR_FORMAT = 6,
  TN_ERROR_MEMORY = 7,
  TN_ERROR_UNSUPPORTED = 8,
  TN_ERROR_CANCELLED = 9,
  TN_ERROR_DEVICE = 10,
  TN_ERROR_INTERNAL = 11
};
typedef int32_t tn_dtype;
enum {
  TN_F32 = 0,
  TN_F16 = 1,
  TN_BF16 = 2,
  TN_I8 = 3,
  TN_I32 = 4,
  TN_U8 = 5,
  TN_Q8_0 = 16,
  TN_Q4_0 = 17,
  TN_Q4_1 = 18,
  TN_Q5_0 = 19,
  TN_Q5_1 = 20,
  TN_Q4_K = 21,
  TN_Q6_K = 22
};
typedef struct tn_context tn_context;
typedef struct tn_graph tn_graph;
typedef struct tn_model tn_model;
typedef struct tn_session tn_session;
typedef uint32_t tn_value;
#define TN_NO_VALUE 0xffffffffu
uint32_t tn_version(void);
const char *tn_status_text(tn_status status);
typedef struct tn_allocator {
  size_t struct_size;
  void *user;
  void *(*allocate)(void *user, size_t size, size_t alignment);
  void (*release)(void *user, void *memory, size_t size);
} tn_allocator;
typedef void (*tn_log)(void *user, const char *message);
typedef struct tn_context_options {
  size_t struct_size;
  uint32_t threads;
  const char *isa;
  const tn_allocator *allocator;
  tn_log log;
  void *log_user;
  const char *backend;
  uint32_t calibrate;
} tn_context_options;
tn_status tn_context_create(const tn_context_options *options, tn_context **context);
void tn_context_destroy(tn_context *context);
size_t tn_error_message(const tn_context *context, char *text, size_t size);
tn_status tn_graph_create(tn_context *context, tn_graph **graph);
void tn_graph_destroy(tn_graph *graph);
tn_status tn_graph_input(tn_graph *graph, const char *name, tn_dtype dtype, const int64_t *dims,
                         size_t rank, tn_value *value);
tn_status tn_graph_parameter(tn_graph *graph, const char *name, tn_dtype dtype,
                             const int64_t *dims, size_t rank, const void *data, size_t size,
                             int32_t trainable, tn_value *value);
tn_status tn_graph_parameter_dlpack(tn_graph *graph, const char *name, uint32_t major, void *tensor,
                                    int32_t trainable, tn_value *value);
tn_status tn_graph_state(tn_graph *graph, const char *name, tn_dtype dtype, const int64_t *dims,
                         size_t rank, tn_value *value);
tn_status tn_graph_constant(tn_graph *graph, tn_dtype dtype, const int64_t *dims, size_t rank,
                            const void *data, size_t size, tn_value *value);
typedef int32_t tn_attr_kind;
enum {
  TN_ATTR_INT = 0,
  TN_ATTR_FLOAT = 1,
  TN_ATTR_BOOL = 2,
  TN_ATTR_STRING = 3,
  TN_ATTR_INTS = 4
};
typedef struct tn_attr {
  size_t struct_size;
  const char *name;
  tn_attr_kind kind;
  int64_t integer;
  double number;
  const char *string;
  const int64_t *integers;
  size_t integer_count;
} tn_attr;
static inline tn_attr tn_attr_int(const char *name, int64_t value) {
  tn_attr attr = {sizeof(tn_attr), name, TN_ATTR_INT, value, 0, NULL, NULL, 0};
  return attr;
}
static inline tn_attr tn_attr_float(const char *name, double value) {
  tn_attr attr = {sizeof(tn_attr), name, TN_ATTR_FLOAT, 0, value, NULL, NULL, 0};
  return attr;
}
static inline tn_attr tn_attr_bool(const char *name, int32_t value) {
  tn_attr attr = {sizeof(tn_attr), name, TN_ATTR_BOOL, value, 0, NULL, NULL, 0};
  return attr;
}
static inline tn_attr tn_attr_string(const char *name, const char *value) {
  tn_attr attr = {sizeof(tn_attr), name, TN_ATTR_STRING, 0, 0, value, NULL, 0};
  return attr;
}
static inline tn_attr tn_attr_ints(const char *name, const int64_t *values, size_t count) {
  tn_attr attr = {sizeof(tn_attr), name, TN_ATTR_INTS, 0, 0, NULL, values, count};
  return attr;
}
tn_status tn_graph_add(tn_graph *graph, const char *op, const tn_attr *attrs, size_t attr_count,
                       const tn_value *inputs, size_t input_count, tn_value *outputs,
                       size_t output_capacity, size_t *output_count);
tn_status tn_graph_output(tn_graph *graph, const char *name, tn_value value);
tn_status tn_graph_set_trainable(tn_graph *graph, tn_value parameter, int32_t trainable);
tn_status tn_graph_shape(tn_graph *graph, tn_value value, int64_t *dims, size_t *rank);
tn_status tn_graph_dump(tn_graph *graph, const char **text);
tn_status tn_graph_graphviz(tn_graph *graph, const char **text);
tn_status tn_model_load(tn_context *context, const char *path, tn_model **model);
void tn_model_destroy(tn_model *model);
typedef int32_t tn_trains;
enum {
  TN_TRAIN_LORA = 0,
  TN_TRAIN_EVERYTHING = 1,
  TN_TRAIN_NOTHING = 2
};
typedef int32_t tn_precision;
enum {
  TN_PRECISION_F32 = 0,
  TN_PRECISION_BF16 = 1,
  TN_PRECISION_INT8 = 2
};
typedef struct tn_model_options {
  size_t struct_size;
  uint32_t batch;
  uint32_t seq;
  tn_trains trains;
  uint32_t lora_rank;
  float lora_alpha;
  const char *lora_targets;
  tn_precision precision;
  uint64_t seed;
  int32_t logits;
  int32_t unused;
  const char *exits;
  uint32_t first_layer;
  uint32_t end_layer;
  tn_dtype wire;
  int32_t unused_too;
} tn_model_options;
typedef int32_t tn_optimizer;
enum { TN_ADAMW = 0, TN_ADAM = 1, TN_SGD = 2 };
typedef int32_t tn_schedule;
enum { TN_SCHEDULE_CONSTANT = 0, TN_SCHEDULE_LINEAR = 1, TN_SCHEDULE_COSINE = 2 };
typedef int32_t tn_clipping;
enum { TN_CLIP_EXACT = 0, TN_CLIP_TWO_PASS = 1, TN_CLIP_RUNNING = 2 };
typedef int32_t tn_state;
enum { TN_STATE_F32 = 0, TN_STATE_BF16 = 1, TN_STATE_INT8 = 2 };
typedef struct tn_train_options {
  size_t struct_size;
  tn_optimizer optimizer;
  float lr;
  float weight_decay;
  float beta1;
  float beta2;
  float eps;
  float momentum;
  int32_t nesterov;
  tn_schedule schedule;
  uint64_t warmup_steps;
  uint64_t total_steps;
  float clip_norm;
  uint32_t accumulation;
  int32_t keep_gradients;
  uint64_t memory_budget;
  tn_state state;
  int32_t stage_inputs;
  tn_clipping clipping;
  const char *spill_folder;
  float proximal;
  int32_t control_variates;
  float outer_lr;
  float outer_momentum;
  float sample_clip_norm;
  float noise_multiplier;
  uint64_t noise_seed;
  uint32_t samples;
  int32_t unused_too;
} tn_train_options;
typedef struct tn_plan {
  size_t struct_size;
  uint64_t nodes;
  uint64_t planned_peak_bytes;
  uint64_t lower_bound_bytes;
  uint64_t arena_bytes;
  uint64_t owned_bytes;
  double plan_ms;
  uint64_t recomputed_nodes;
  double slowdown;
  uint64_t spilled_bytes;
} tn_plan;
tn_status tn_plan_graph(tn_graph *graph, tn_value loss, const tn_train_options *options,
                        tn_plan *plan);
tn_status tn_plan_model(tn_model *model, const tn_model_options *model_options,
                        const tn_train_options *options, tn_plan *plan);
tn_status tn_session_create(tn_graph *graph, tn_value loss, const tn_train_options *options,
                            tn_session **session);
tn_status tn_session_from_model(tn_model *model, const tn_model_options *model_options,
                                const tn_train_options *options, tn_session **session);
void tn_session_destroy(tn_session *session);
tn_status tn_session_plan(tn_session *session, tn_plan *plan);
tn_status tn_session_set_memory_budget(tn_session *session, uint64_t memory_budget);
tn_status tn_session_write(tn_session *session, const char *name, const void *data, size_t size);
tn_status tn_session_stage(tn_session *session, const char *name, const void *data, size_t size);
tn_status tn_session_take(tn_session *session);
tn_status tn_session_read(tn_session *session, const char *name, void *data, size_t size);
tn_status tn_session_dlpack(tn_session *session, const char *name, uint32_t major, void **tensor);
typedef int32_t (*tn_progress)(void *user, uint64_t done, uint64_t total);
typedef struct tn_run_options {
  size_t struct_size;
  tn_progress progress;
  void *progress_user;
  const char *trace_file;
  uint32_t progress_ms;
  uint32_t unused;
} tn_run_options;
typedef struct tn_report {
  size_t struct_size;
  float loss;
  float lr;
  float grad_norm;
  float unused;
  uint64_t step;
} tn_report;
tn_status tn_session_step(tn_session *session, const tn_run_options *options, tn_report *report);
tn_status tn_session_evaluate(tn_session *session, const tn_run_options *options, float *loss);
typedef struct tn_parameter {
  size_t struct_size;
  const char *name;
  tn_dtype dtype;
  int32_t trainable;
  uint64_t size;
  size_t rank;
  int64_t dims[TN_MAX_RANK];
} tn_parameter;
tn_status tn_session_parameter_count(tn_session *session, size_t *count, size_t *trainable);
tn_status tn_session_parameter(tn_session *session, size_t index, tn_parameter *parameter);
tn_status tn_session_trainable_size(tn_session *session, size_t *size);
tn_status tn_session_get_trainable(tn_session *session, void *data, size_t size);
tn_status tn_session_set_trainable(tn_session *session, const void *data, size_t size);
tn_status tn_session_get_gradients(tn_session *session, void *data, size_t size);
tn_status tn_session_save(tn_session *session, const char *path, const char *note);
tn_status tn_session_load(tn_session *session, const char *path, const char **note);
typedef int32_t tn_kept;
enum {
  TN_KEPT_ANCHOR = 0,
  TN_KEPT_CONTROL = 1,
  TN_KEPT_SERVER_CONTROL = 2,
  TN_KEPT_OUTER_MOMENTUM = 3
};
tn_status tn_session_get_kept(tn_session *session, tn_kept kept, void *data, size_t size);
tn_status tn_session_set_kept(tn_session *session, tn_kept kept, const void *data, size_t size);
tn_status tn_session_begin_round(tn_session *session);
tn_status tn_session_renew_control(tn_session *session);
tn_status tn_session_outer_step(tn_session *session);
tn_status tn_graph_send(tn_graph *graph, const char *name, tn_dtype dtype, tn_value value,
                        int32_t trains);
tn_status tn_graph_receive(tn_graph *graph, const char *name, tn_dtype dtype, const int64_t *dims,
                           size_t rank, int32_t trains, tn_value *value);
tn_status tn_session_forward(tn_session *session, const tn_run_options *options);
typedef int32_t tn_set;
enum {
  TN_SET_TRAINABLE = 0,
  TN_SET_ALL = 1,
  TN_SET_ADAPTERS = 2
};
tn_status tn_model_empty(tn_context *context, const char *path, tn_model **model);
tn_status tn_parameters_count(tn_session *session, tn_set set, size_t *parameters,
                              size_t *elements);
tn_status tn_parameters_read(tn_session *session, tn_set set, float *data, size_t count);
tn_status tn_parameters_write(tn_session *session, tn_set set, const float *data, size_t count);
tn_status tn_parameters_difference(tn_session *session, tn_set set, const float *start,
                                   float *update, size_t count);
tn_status tn_parameters_add(tn_session *session, tn_set set, float factor, const float *update,
                            size_t count);
tn_status tn_update_accumulate(tn_context *context, float weight, const float *update, float *sum,
                               size_t count);
tn_status tn_update_average(tn_context *context, const float *weights, float *sum, size_t count);
typedef struct tn_compression {
  size_t struct_size;
  uint64_t keep;
  uint32_t bits;
  uint32_t unused;
  uint64_t seed;
  uint64_t round;
} tn_compression;
tn_status tn_update_bound(tn_context *context, const tn_compression *how, size_t count,
                          size_t *size);
tn_status tn_update_compress(tn_context *context, const tn_compression *how, const float *update,
                             float *residual, size_t count, void *bytes, size_t capacity,
                             size_t *size);
typedef struct tn_message {
  size_t struct_size;
  uint64_t count;
  uint64_t kept;
  uint32_t bits;
  uint32_t unused;
} tn_message;
tn_status tn_update_inspect(tn_context *context, const void *bytes, size_t size,
                            tn_message *message);
tn_status tn_update_add(tn_context *context, float weight, const void *bytes, size_t size,
                        float *sum, size_t count);
typedef struct tn_fixed_point {
  size_t struct_size;
  float clip;
  uint32_t clients;
} tn_fixed_point;
tn_status tn_secure_encode(tn_context *context, const tn_fixed_point *fixed, float weight,
                           const float *x, uint32_t *words, size_t count);
typedef struct tn_mask {
  size_t struct_size;
  uint64_t seed;
  uint64_t round;
  int32_t negative;
  int32_t unused;
} tn_mask;
tn_status tn_secure_mask(tn_context *context, const tn_mask *masks, size_t mask_count,
                         uint32_t *words, size_t count);
tn_status tn_secure_add(tn_context *context, const uint32_t *words, uint32_t *sum, size_t count);
tn_status tn_secure_decode(tn_context *context, const tn_fixed_point *fixed, float factor,
                           const uint32_t *words, float *x, size_t count);
typedef struct tn_axis {
  size_t struct_size;
  const char *parameters;
  uint32_t axis;
  uint32_t unit;
  uint64_t length;
  uint64_t start;
} tn_axis;
typedef struct tn_submodel {
  size_t struct_size;
  const tn_parameter *parameters;
  size_t parameter_count;
  const tn_axis *axes;
  size_t axis_count;
} tn_submodel;
tn_status tn_submodel_count(tn_context *context, const tn_submodel *submodel, size_t *count);
tn_status tn_submodel_extract(tn_context *context, const tn_submodel *submodel, const float *whole,
                              size_t whole_count, float *part, size_t part_count);
tn_status tn_submodel_add(tn_context *context, const tn_submodel *submodel, float weight,
                          const float *part, size_t part_count, float *sum, float *weights,
                          size_t whole_count);
#ifdef __cplusplus
}
#endif
#endif
