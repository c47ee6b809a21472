/*
 * tenon.h - train models on this device, exactly, in little memory.
 *
 * A MANUAL IN ONE PAGE
 *
 * There are four kinds of handle, each made by a *_create or *_load function and given back by its
 * *_destroy, which accepts NULL:
 *
 *   tn_context   threads, instruction set, allocator, log. Everything else belongs to one.
 *   tn_graph     a computation: inputs, parameters, states, ops by name with attributes.
 *   tn_model     a model's weights, mapped from a file.
 *   tn_session   a graph in training, with its memory planned and taken.
 *
 * A session is made from a graph and its loss (tn_session_create), or from a model
 * (tn_session_from_model). The plan is known before that (tn_plan_graph, tn_plan_model) and kept:
 * a step allocates nothing. Then, for every step: tn_session_write the inputs, tn_session_step,
 * and read what you want.
 *
 *   tn_context *cx;  tn_graph *g;  tn_session *s;  tn_value x, w, y, loss;
 *   tn_context_create(NULL, &cx);
 *   tn_graph_create(cx, &g);
 *   ... tn_graph_input, tn_graph_parameter, tn_graph_add ...
 *   tn_session_create(g, loss, NULL, &s);
 *   while (...) { tn_session_write(s, "x", data, size); tn_session_step(s, NULL, &report); }
 *
 * RULES THAT HOLD FOR EVERY FUNCTION
 *
 * Errors. A function that can fail returns a tn_status; TN_OK is 0. tn_error_message(cx, ...) tells
 *   in words why the last call that failed did, and what would mend it. A call that fails changes
 *   nothing: outputs are not written and handles stay as they were, with exceptions that are
 *   stated at tn_session_step and tn_update_compress.
 * Ownership. What you pass in is copied or read during the call, never kept, unless a function
 *   says otherwise. A text that you get belongs to its handle; the function says how long it lives.
 * NULL. A pointer may be NULL only where its description says so.
 * Structs. Every argument struct begins with struct_size: set it to sizeof the struct as you know
 *   it. Fields beyond it take their defaults; a report is never written past it. Zero in a field
 *   means its default. New fields are only ever appended.
 * Threads. Different contexts know nothing of each other. A context may be used from any threads at
 *   once; every other handle only from one thread at a time, but for tn_session_stage. Sessions made
 *   from one graph share its parameters, so for this rule they and the graph are one handle. Everything
 *   made from a context keeps what it needs of it alive: handles may be destroyed in any order, each
 *   once, when no other call uses it.
 * Callbacks are called only from within a call of yours, on the thread that made it. They must
 *   return: no C++ exception and no longjmp may leave them. They may use any handle but the one that
 *   the call is with, where it is no context: such a call is refused with TN_ERROR_ARGUMENT. They may
 *   destroy any: the one that the call is with goes when that call returns.
 * Loading. The library may be loaded by dlopen. Once all handles and shared tensors are given back,
 *   dlclose unloads it, from any thread, also where threads that called it go on: none of its own
 *   threads, no memory and no thread-local value is left.
 * Units. Sizes are in bytes, counts in elements, times in seconds unless a name says otherwise.
 * Strings are UTF-8 and end in NUL.
 * Tensors are contiguous and row-major, elements in the machine's byte order. What is copied in or out
 *   may lie at any address.
 *
 * MARKS
 *
 * The last line of a function's description says:
 *   Any thread: it may be called with one handle from several threads at once. One thread: only by
 *     one at a time, with a handle and those that count as one with it.
 *   Fails: the codes it gives beside TN_OK, without TN_ERROR_. Any function may give INTERNAL, and a
 *     later version other codes: take what you do not know for a failure.
 *   Since: the first TN_VERSION that has it. A field without a note is as old as its struct.
 *
 * VERSIONS
 *
 * This header is C99, C11 and C++17. Within a major version the ABI only grows: functions, codes
 * and fields at a struct's end are added, fields called `unused` get a name, and TN_VERSION rises.
 * Nothing goes, and nothing changes its name, its place, its type, its number or its meaning.
 * A program built against an older header runs with a newer library: its structs are read as if the
 *   rest were zero, and never written beyond what it knows.
 * A program built against a newer header runs with an older library where it uses nothing newer:
 *   bytes of a struct that the library does not know must be 0, else the call fails with
 *   TN_ERROR_ARGUMENT; those of a report stay as they were, so set them to 0 before. Ask tn_version().
 */
#ifndef TENON_H
#define TENON_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version this header belongs to: major * 10000 + minor * 100 + patch. */
#define TN_VERSION 100

/* Most dimensions of a tensor. */
#define TN_MAX_RANK 8

/* What a call came to. Codes are never renumbered. */
typedef int32_t tn_status;
enum {
  TN_OK = 0,
  TN_ERROR_ARGUMENT = 1,    /* NULL, a bad size, a bad string, a struct of a wrong version */
  TN_ERROR_SHAPE = 2,       /* shapes or element types that do not fit */
  TN_ERROR_NOT_FOUND = 3,   /* no op, parameter, input of that name */
  TN_ERROR_GRAPH = 4,       /* the graph breaks a rule, or has no gradient */
  TN_ERROR_IO = 5,          /* the system refused a file operation */
  TN_ERROR_FORMAT = 6,      /* a file is not what it should be */
  TN_ERROR_MEMORY = 7,      /* out of memory, or a budget that cannot be met */
  TN_ERROR_UNSUPPORTED = 8, /* no backend can do it */
  TN_ERROR_CANCELLED = 9,   /* the progress callback said so */
  TN_ERROR_DEVICE = 10,     /* a device failed */
  TN_ERROR_INTERNAL = 11    /* a bug in Tenon; destroy the handle, nothing else is safe to do */
};

/* Element types. */
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

/* A value of a graph: meaningful only for the graph that gave it. */
typedef uint32_t tn_value;

/* No value: for the loss of a graph that has none of its own (see tn_graph_send). */
#define TN_NO_VALUE 0xffffffffu

/* The library's version, as TN_VERSION: of what runs, not of what it was compiled against.
 * Any thread. Never fails. Since 100. */
uint32_t tn_version(void);

/* A few words for a status code; never NULL, lives for ever.
 * Any thread. Never fails. Since 100. */
const char *tn_status_text(tn_status status);

/* ---- context ---------------------------------------------------------------------------- */

/* Memory from the caller, for everything that a plan counts: parameters, states, inputs and what a
 * step works in. Both functions are given. Where there is none of it, a call fails with
 * TN_ERROR_MEMORY, changes nothing, and may be made again. What is small beside tensors (handles,
 * graphs, plans, messages, tables of a model, tensors below 64 KiB of a file) is the process's own
 * memory. */
typedef struct tn_allocator {
  size_t struct_size;
  void *user; /* passed to both functions; may be NULL */
  /* `size` bytes (never 0) aligned to `alignment` (a power of two), or NULL. Any content. */
  void *(*allocate)(void *user, size_t size, size_t alignment);
  /* Takes back what allocate gave, with the same size. */
  void (*release)(void *user, void *memory, size_t size);
} tn_allocator;

/* Told what people may want to know. `message` lives during the call. */
typedef void (*tn_log)(void *user, const char *message);

/* How a context is made. */
typedef struct tn_context_options {
  size_t struct_size;
  uint32_t threads;              /* threads that work, the caller's among them, at most 1024;
                                    0: one a core */
  const char *isa;               /* instruction set by name, such as "avx2"; NULL: what the
                                    environment's TENON_ISA says, or the best there is */
  const tn_allocator *allocator; /* for tensors; copied; NULL: the process's own. Its functions
                                    must work until the last handle of the context is destroyed,
                                    at once from any threads that use its handles */
  tn_log log;                    /* as long as the allocator; NULL: silence */
  void *log_user;                /* passed to log; may be NULL */
  const char *backend;           /* what to run on: "cpu"; "vulkan", "nnapi" or "coreml", an error
                                    where there is no such device; "auto", a graphics card where
                                    there is one, else the CPU. What a device does not claim runs on
                                    the CPU, op by op. The log is told what a device gets wrong on
                                    its first use, and is not used for. NULL: what the environment's
                                    TENON_BACKEND says, or "cpu" */
  uint32_t calibrate;            /* not 0: the device's speed is measured first, in 5 to 100 ms, so
                                    that what plans within a budget make again is what is quick to
                                    make on it. Plans may then differ from run to run; results never
                                    do */
} tn_context_options;

/* Makes a context. `options` may be NULL. There is no message where this fails: the status alone
 * tells why.
 * Any thread. Fails: ARGUMENT, UNSUPPORTED, DEVICE. Since 100. */
tn_status tn_context_create(const tn_context_options *options, tn_context **context);

/* Gives a context back. What was made from it stays.
 * One thread. Never fails. Since 100. */
void tn_context_destroy(tn_context *context);

/* Why the last call that failed did, of those with this context or a handle made from it, in any
 * thread; "" if none did. Writes as much of the text as fits in `size` bytes, always with a NUL at
 * its end, and gives the bytes that the whole of it takes, NUL included. `context` may be NULL:
 * then "". `text` may be NULL where `size` is 0.
 * Any thread. Never fails. Since 100. */
size_t tn_error_message(const tn_context *context, char *text, size_t size);

/* ---- graphs ----------------------------------------------------------------------------- */

/* Makes an empty graph.
 * Any thread. Fails: ARGUMENT. Since 100. */
tn_status tn_graph_create(tn_context *context, tn_graph **graph);

/* Gives a graph back. Sessions made from it do not need it.
 * One thread. Never fails. Since 100. */
void tn_graph_destroy(tn_graph *graph);

/* A value that is written before the first run, and again before any other that it changes for.
 * `dims` has `rank` entries (may be NULL for rank 0). An i32 scalar called `train.seed` is written
 * by each step itself, with a number that differs from step to step: for dropout.
 * One thread. Fails: ARGUMENT, SHAPE, GRAPH. Since 100. */
tn_status tn_graph_input(tn_graph *graph, const char *name, tn_dtype dtype, const int64_t *dims,
                         size_t rank, tn_value *value);

/* A weight. `data` is its content in `size` bytes, copied; NULL: zeros. Where `trainable` is not 0
 * it trains, and must be f32.
 * One thread. Fails: ARGUMENT, SHAPE, GRAPH, MEMORY. Since 100. */
tn_status tn_graph_parameter(tn_graph *graph, const char *name, tn_dtype dtype,
                             const int64_t *dims, size_t rank, const void *data, size_t size,
                             int32_t trainable, tn_value *value);

/* A weight in another library's memory, which is used in place: where it trains, updates write there.
 * `tensor` is as DLPack has it: a DLManagedTensorVersioned where `major` is 1, a DLManagedTensor,
 * as before DLPack 1.0, where it is 0; on the CPU, contiguous, aligned to its elements; where it
 * trains, f32 and writable. It is taken: its deleter is called, on whichever thread lets go of the
 * last handle that uses it. Where the call fails it stays yours. Others may read and write the memory
 * between runs, not during one.
 * One thread. Fails: ARGUMENT, SHAPE, GRAPH. Since 100. */
tn_status tn_graph_parameter_dlpack(tn_graph *graph, const char *name, uint32_t major, void *tensor,
                                    int32_t trainable, tn_value *value);

/* A value kept between runs that ops such as batch_norm overwrite; zeros at first.
 * One thread. Fails: ARGUMENT, SHAPE, GRAPH. Since 100. */
tn_status tn_graph_state(tn_graph *graph, const char *name, tn_dtype dtype, const int64_t *dims,
                         size_t rank, tn_value *value);

/* Fixed content, `size` bytes, copied.
 * One thread. Fails: ARGUMENT, SHAPE, MEMORY. Since 100. */
tn_status tn_graph_constant(tn_graph *graph, tn_dtype dtype, const int64_t *dims, size_t rank,
                            const void *data, size_t size, tn_value *value);

/* The kinds of an attribute's value. */
typedef int32_t tn_attr_kind;
enum {
  TN_ATTR_INT = 0,
  TN_ATTR_FLOAT = 1,
  TN_ATTR_BOOL = 2, /* in `integer`: 0 is false, all else true */
  TN_ATTR_STRING = 3,
  TN_ATTR_INTS = 4
};

/* An attribute of an op; the functions below make one. Only the fields that belong to `kind` are
 * read. In an array, all have the same struct_size. */
typedef struct tn_attr {
  size_t struct_size;
  const char *name;        /* as the op knows it */
  tn_attr_kind kind;       /* which of the fields below is read */
  int64_t integer;         /* INT and BOOL */
  double number;           /* FLOAT */
  const char *string;      /* STRING */
  const int64_t *integers; /* INTS; may be NULL where integer_count is 0 */
  size_t integer_count;    /* elements of integers */
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

/* Adds the op called `op`; the README lists them. `attrs` and `inputs` may be NULL where their
 * count is 0. The op's outputs are written to `outputs`, at most `output_capacity` of them; it may be
 * NULL where that is 0. *output_count, if not NULL, gets how many the op has.
 * One thread. Fails: ARGUMENT, SHAPE, NOT_FOUND, GRAPH. Since 100. */
tn_status tn_graph_add(tn_graph *graph, const char *op, const tn_attr *attrs, size_t attr_count,
                       const tn_value *inputs, size_t input_count, tn_value *outputs,
                       size_t output_capacity, size_t *output_count);

/* Asks for a value under a name after each run. The name `loss`, and where gradients are kept,
 * `grad/` and a parameter's name, belong to the session.
 * One thread. Fails: ARGUMENT, GRAPH. Since 100. */
tn_status tn_graph_output(tn_graph *graph, const char *name, tn_value value);

/* Makes a parameter train, or freezes it.
 * One thread. Fails: ARGUMENT, GRAPH. Since 100. */
tn_status tn_graph_set_trainable(tn_graph *graph, tn_value parameter, int32_t trainable);

/* The dimensions of a value: *rank of them, written to `dims`, which has room for TN_MAX_RANK.
 * One thread. Fails: ARGUMENT. Since 100. */
tn_status tn_graph_shape(tn_graph *graph, tn_value value, int64_t *dims, size_t *rank);

/* The graph as text to read; *text belongs to the graph until its next call.
 * One thread. Fails: ARGUMENT. Since 100. */
tn_status tn_graph_dump(tn_graph *graph, const char **text);

/* The graph in Graphviz's language; *text belongs to the graph until its next call.
 * One thread. Fails: ARGUMENT. Since 100. */
tn_status tn_graph_graphviz(tn_graph *graph, const char **text);

/* ---- models ----------------------------------------------------------------------------- */

/* Maps a model: a .gguf file, or a folder with config.json and safetensors. The file must not be
 * rewritten in place while the model or a session of it lives.
 * Any thread. Fails: ARGUMENT, NOT_FOUND, IO, FORMAT, MEMORY, UNSUPPORTED. Since 100. */
tn_status tn_model_load(tn_context *context, const char *path, tn_model **model);

/* Gives a model back. Sessions made from it keep its file mapped by themselves.
 * One thread. Never fails. Since 100. */
void tn_model_destroy(tn_model *model);

/* What of a model trains. */
typedef int32_t tn_trains;
enum {
  TN_TRAIN_LORA = 0,
  TN_TRAIN_EVERYTHING = 1,
  TN_TRAIN_NOTHING = 2 /* for parts of a model that are only evaluated */
};

/* What the products with a model's own weights round their operands to; sums are f32. */
typedef int32_t tn_precision;
enum {
  TN_PRECISION_F32 = 0,  /* nothing */
  TN_PRECISION_BF16 = 1, /* bfloat16 */
  TN_PRECISION_INT8 = 2  /* int8 in blocks of 32; for weights that do not train */
};

/* How a model becomes a session. Inputs of the session: `tokens`, i32 [batch, seq], and `targets`,
 * i32 [batch * seq], the token that follows each, -100 where none counts. Output: `loss`.
 * A session may hold a part of the model, some layers: see "parts of a model" below. Only the first
 * part takes `tokens`. What parts hand on is f32 [batch, seq, width] before it travels as `wire`:
 * one whose first layer is N receives `hidden/N`, one that ends before layer N sends `hidden/N`. The
 * weights of other layers are not touched. */
typedef struct tn_model_options {
  size_t struct_size;
  uint32_t batch;           /* sequences in a step; 0: 1 */
  uint32_t seq;             /* tokens in a sequence; 0: 256 */
  tn_trains trains;         /* 0: adapters */
  uint32_t lora_rank;       /* 0: 8 */
  float lora_alpha;         /* 0: twice the rank */
  const char *lora_targets; /* projections with commas between; NULL: "q_proj,v_proj" */
  tn_precision precision;   /* 0: f32 */
  uint64_t seed;            /* of the adapters' first values */
  int32_t logits;           /* not 0: give the output `logits` too; they are whole then */
  int32_t unused;           /* 0 */
  const char *exits;        /* early exits: numbers with commas between, of layers after which the
                               model's norm, head and loss stand too. The loss is the sum of all;
                               outputs `loss/N` tell each. NULL: none but after the last layer */
  uint32_t first_layer;     /* of the part, from 0 */
  uint32_t end_layer;       /* the layer that the part ends before; 0: it ends with the model */
  tn_dtype wire;            /* what activations and their gradients travel as: see tn_graph_send */
  int32_t unused_too;       /* 0 */
} tn_model_options;

/* ---- sessions --------------------------------------------------------------------------- */

/* The rule of updates. */
typedef int32_t tn_optimizer;
enum { TN_ADAMW = 0, TN_ADAM = 1, TN_SGD = 2 };

/* How the learning rate goes on after the warm-up: as it is, or down to 0 at total_steps. */
typedef int32_t tn_schedule;
enum { TN_SCHEDULE_CONSTANT = 0, TN_SCHEDULE_LINEAR = 1, TN_SCHEDULE_COSINE = 2 };

/* How the norm that gradients are clipped to is found. EXACT: from all gradients of the step, which
 * wait for each other in memory. TWO_PASS: by running forward and backward twice; no gradient waits.
 * RUNNING: the greater of the last step's norm and that of this step's gradients so far; no gradient
 * waits, and the factor is an estimate. Accumulated gradients are always clipped exactly. */
typedef int32_t tn_clipping;
enum { TN_CLIP_EXACT = 0, TN_CLIP_TWO_PASS = 1, TN_CLIP_RUNNING = 2 };

/* How an optimizer's states are stored. BF16 takes a half and INT8 about a quarter of F32's bytes;
 * both are rounded at random by a seed of their own, so that runs repeat bit for bit. */
typedef int32_t tn_state;
enum { TN_STATE_F32 = 0, TN_STATE_BF16 = 1, TN_STATE_INT8 = 2 };

/* How a session trains. */
typedef struct tn_train_options {
  size_t struct_size;
  tn_optimizer optimizer; /* 0: AdamW */
  float lr;               /* learning rate; 0: 1e-3 */
  float weight_decay;     /* AdamW: of the weights, times the rate; Adam and SGD: added to the
                             gradient, times the weights; 0: none */
  float beta1;            /* Adam and AdamW; 0: 0.9 */
  float beta2;            /* the same; 0: 0.999 */
  float eps;              /* the same; 0: 1e-8 */
  float momentum;         /* SGD; 0: none */
  int32_t nesterov;       /* SGD; not 0: momentum is Nesterov's */
  tn_schedule schedule;   /* 0: constant */
  uint64_t warmup_steps;  /* updates over which the rate rises from 0; 0: none */
  uint64_t total_steps;   /* the update at which linear and cosine schedules end */
  float clip_norm;        /* largest global L2 norm of the gradient; 0: no clipping */
  uint32_t accumulation;  /* micro-steps averaged before an update; 0: 1 */
  int32_t keep_gradients; /* not 0: gradients can be read after a step */
  uint64_t memory_budget; /* most bytes the plan may take: what does not fit is made again
                             instead of kept, with the same bits; 0: no bound */
  tn_state state;         /* of momentum and moments */
  int32_t stage_inputs;   /* not 0: inputs have a second buffer each, for tn_session_stage */
  tn_clipping clipping;   /* how the norm for clip_norm is found */
  const char *spill_folder; /* folder for a file that states go to where memory_budget cannot be met
                               otherwise; it has no name and goes with the session. NULL: none */
  float proximal;         /* FedProx: mu, where the loss has the term mu/2 |w - anchor|^2; 0: none */
  int32_t control_variates; /* SCAFFOLD: not 0: each gradient g is g - c_i + c. The term and this are
                               in a gradient before it is clipped; those that are kept to be read
                               have neither */
  float outer_lr;         /* DiLoCo: the rate of tn_session_outer_step; 0: there is none */
  float outer_momentum;   /* its Nesterov momentum; 0: none */
  float sample_clip_norm; /* DP-SGD: largest L2 norm of the gradient of one sample, over all that
                             trains; 0: samples are not clipped. See "private training" below */
  float noise_multiplier; /* the noise's standard deviation on the sum of an update's clipped
                             gradients, in multiples of sample_clip_norm; 0: none */
  uint64_t noise_seed;    /* of the noise: secret, drawn at random, not 0 where there is noise */
  uint32_t samples;       /* samples in a batch; 0: a model's sequences. A graph has no default */
  int32_t unused_too;     /* 0 */
} tn_train_options;

/* What a step will take. */
typedef struct tn_plan {
  size_t struct_size;
  uint64_t nodes;              /* nodes of a step */
  uint64_t planned_peak_bytes; /* everything Tenon holds in a step but mapped weights */
  uint64_t lower_bound_bytes;  /* what the peak cannot be below in this order of nodes */
  uint64_t arena_bytes;        /* of the peak: activations, gradients, scratch */
  uint64_t owned_bytes;        /* of the peak: trained parameters, optimizer state, inputs */
  double plan_ms;              /* milliseconds that planning took */
  uint64_t recomputed_nodes;   /* nodes that run once more to save memory */
  double slowdown;             /* the time they are estimated to add, as a share of a step */
  uint64_t spilled_bytes;      /* states in a file instead of memory; not counted above */
} tn_plan;

/* Plans a session without making it. `options` may be NULL. Set plan->struct_size before.
 * One thread. Fails: ARGUMENT, SHAPE, GRAPH, MEMORY, UNSUPPORTED. Since 100. */
tn_status tn_plan_graph(tn_graph *graph, tn_value loss, const tn_train_options *options,
                        tn_plan *plan);

/* Plans a session of a model without making it. Both options may be NULL.
 * One thread. Fails: ARGUMENT, SHAPE, NOT_FOUND, GRAPH, FORMAT, MEMORY, UNSUPPORTED. Since 100. */
tn_status tn_plan_model(tn_model *model, const tn_model_options *model_options,
                        const tn_train_options *options, tn_plan *plan);

/* Makes a session that minimises `loss`, an f32 scalar of `graph`; TN_NO_VALUE where the graph only
 * sends what others go on from. The graph is copied, its parameters are not: sessions of one graph
 * share them (see "Threads" above). `options` may be NULL.
 * One thread. Fails: ARGUMENT, SHAPE, GRAPH, IO, MEMORY, UNSUPPORTED, DEVICE. Since 100. */
tn_status tn_session_create(tn_graph *graph, tn_value loss, const tn_train_options *options,
                            tn_session **session);

/* Makes a session that trains a model. Both options may be NULL.
 * One thread. Fails: ARGUMENT, SHAPE, NOT_FOUND, GRAPH, IO, FORMAT, MEMORY, UNSUPPORTED,
 *   DEVICE. Since 100. */
tn_status tn_session_from_model(tn_model *model, const tn_model_options *model_options,
                                const tn_train_options *options, tn_session **session);

/* Gives a session back.
 * One thread. Never fails. Since 100. */
void tn_session_destroy(tn_session *session);

/* The plan that the session keeps. Set plan->struct_size before.
 * One thread. Fails: ARGUMENT. Since 100. */
tn_status tn_session_plan(tn_session *session, tn_plan *plan);

/* Plans the session anew within another budget (0: no bound), between two steps: what to do when the
 * system says that memory runs short. Parameters, states, inputs and micro-steps stay as they are,
 * and no bit of what is trained changes; outputs of the last step are gone. A budget that cannot be
 * met is TN_ERROR_MEMORY, and tn_error_message tells the smallest that can.
 * One thread. Fails: ARGUMENT, IO, MEMORY, DEVICE. Since 100. */
tn_status tn_session_set_memory_budget(tn_session *session, uint64_t memory_budget);

/* Writes a whole input, parameter or state: exactly its `size` bytes, in its element type.
 * One thread. Fails: ARGUMENT, NOT_FOUND. Since 100. */
tn_status tn_session_write(tn_session *session, const char *name, const void *data, size_t size);

/* Writes an input as tn_session_write does, but into a second buffer, while the session may be at
 * work: so the next batch is brought while a step runs. For sessions made with stage_inputs;
 * gradients that come back (see tn_graph_send) cannot be staged. Of what is staged twice, the last
 * counts. It may be called while any other call is with the session, and from its callbacks.
 * Any thread. Fails: ARGUMENT, NOT_FOUND. Since 100. */
tn_status tn_session_stage(tn_session *session, const char *name, const void *data, size_t size);

/* Makes what was staged the inputs, by a copy in memory; those not staged since the last time stay as
 * they are. While another thread still stages, a part of its batch might be taken.
 * One thread. Fails: ARGUMENT. Since 100. */
tn_status tn_session_take(tn_session *session);

/* Reads a whole input, parameter or state; an output of the last step or evaluation, whichever came
 * last; or, where gradients are kept, `grad/NAME`: a parameter's gradient in the last step, before
 * clipping. Exactly its `size` bytes. A step that failed leaves no outputs to read.
 * One thread. Fails: ARGUMENT, NOT_FOUND. Since 100. */
tn_status tn_session_read(tn_session *session, const char *name, void *data, size_t size);

/* Shares what tn_session_read copies, without a copy, as DLPack has it: *tensor gets a
 * DLManagedTensorVersioned where `major` is 1, a DLManagedTensor, as before DLPack 1.0, where it
 * is 0. It is yours: its deleter, which any thread may call, gives it back, and until then the
 * memory stays, whatever becomes of the session. Inputs, parameters and states lie in one place for
 * as long as the session lives; what is written there between runs holds for the next. An output holds
 * what the last run left until the next begins. An input that was never written by tn_session_write
 * counts as such all the same. What is mapped from a file is read-only, which version 0 cannot say.
 * Weights in blocks come as u8: the bytes of their rows.
 * One thread. Fails: ARGUMENT, NOT_FOUND. Since 100. */
tn_status tn_session_dlpack(tn_session *session, const char *name, uint32_t major, void **tensor);

/* Called between nodes: `done` of `total` have run. Not 0 stops the step. The step waits for as long
 * as the call takes: to pause, or to let a warm device rest, return late. */
typedef int32_t (*tn_progress)(void *user, uint64_t done, uint64_t total);

/* How a step or an evaluation runs. */
typedef struct tn_run_options {
  size_t struct_size;
  tn_progress progress; /* NULL: none */
  void *progress_user;  /* passed to progress; may be NULL */
  const char *trace_file; /* where to write when every node of this run ran, for how long, and what
                             it computed and moved, in Chrome's trace event format; NULL: nowhere. A
                             disk that fills up meanwhile is told of by the context's log alone */
  uint32_t progress_ms;   /* least milliseconds from one call of progress to the next, and from the
                             start to the first; 0: a call before every node */
  uint32_t unused;        /* 0 */
} tn_run_options;

/* What a step tells. */
typedef struct tn_report {
  size_t struct_size;
  float loss;      /* of the inputs, before the update; 0 where the graph has none of its own */
  float lr;        /* learning rate of the update; 0 if this micro-step made none */
  float grad_norm; /* before clipping; 0 where clipping is off or no update was made */
  float unused;    /* 0: no byte of a report is left as it happens to be */
  uint64_t step;   /* updates made so far, those before a load included */
} tn_report;

/* Runs forward, backward and, at every accumulation-th call, the update; after tn_session_forward,
 * what is left of them. Every input must have been written. `options` and `report` may be NULL.
 * A step that ends early, cancelled or at an index outside its table, does not count, nor do the
 * micro-steps since the last update; but updates that had run stay: each parameter is either as
 * before or updated whole.
 * One thread. Fails: ARGUMENT, SHAPE, IO, UNSUPPORTED, CANCELLED, DEVICE. Since 100. */
tn_status tn_session_step(tn_session *session, const tn_run_options *options, tn_report *report);

/* The loss of the inputs (0 where the graph has none), without gradient or update: dropout is off,
 * and batch_norm takes its running statistics. `options` may be NULL. It takes turns with the step
 * in the memory of the plan; outputs of the last step are gone after it.
 * One thread. Fails: ARGUMENT, SHAPE, IO, MEMORY, UNSUPPORTED, CANCELLED, DEVICE. Since 100. */
tn_status tn_session_evaluate(tn_session *session, const tn_run_options *options, float *loss);

/* A parameter of a session. */
typedef struct tn_parameter {
  size_t struct_size;
  const char *name; /* belongs to the session, as long as it lives */
  tn_dtype dtype;   /* of its elements */
  int32_t trainable; /* not 0: it trains */
  uint64_t size;    /* bytes */
  size_t rank;      /* how many of dims there are */
  int64_t dims[TN_MAX_RANK]; /* elements along each; 0 beyond the rank */
} tn_parameter;

/* How many parameters there are; the first *trainable of them train. Both may be NULL.
 * One thread. Fails: ARGUMENT. Since 100. */
tn_status tn_session_parameter_count(tn_session *session, size_t *count, size_t *trainable);

/* Describes parameter `index`. Set parameter->struct_size before.
 * One thread. Fails: ARGUMENT. Since 100. */
tn_status tn_session_parameter(tn_session *session, size_t index, tn_parameter *parameter);

/* Bytes of all trainable parameters together, in the order of their index.
 * One thread. Fails: ARGUMENT. Since 100. */
tn_status tn_session_trainable_size(tn_session *session, size_t *size);

/* Copies all trainable parameters out into one buffer of exactly that size.
 * One thread. Fails: ARGUMENT. Since 100. */
tn_status tn_session_get_trainable(tn_session *session, void *data, size_t size);

/* Copies all trainable parameters in from one buffer of exactly that size.
 * One thread. Fails: ARGUMENT. Since 100. */
tn_status tn_session_set_trainable(tn_session *session, const void *data, size_t size);

/* Copies the gradients of the last step out in the same order, where they are kept; zeros for a
 * parameter that the loss does not depend on.
 * One thread. Fails: ARGUMENT. Since 100. */
tn_status tn_session_get_gradients(tn_session *session, void *data, size_t size);

/* Saves what trains, the optimizer's state and the step number, atomically: `path` holds either
 * the old file or the whole new one. The old one is kept as `path` with `.previous` after it. `note`
 * is yours, and comes back on load; may be NULL.
 * One thread. Fails: ARGUMENT, IO. Since 100. */
tn_status tn_session_save(tn_session *session, const char *path, const char *note);

/* Continues from a saved file; the session's options must be those it was saved with. Where the
 * file is damaged or gone, the one before it is taken, and the context's log told. `note` may be
 * NULL; *note gets yours, which belongs to the session until its next load.
 * One thread. Fails: ARGUMENT, IO, FORMAT. Since 100. */
tn_status tn_session_load(tn_session *session, const char *path, const char **note);

/* ---- rounds of federated training ------------------------------------------------------- */

/*
 * A round begins when the server's parameters are there, and ends when the client's go back. What a
 * session keeps of a round follows from its training options, is counted in its plan, and saved:
 *
 *   FedProx    tn_session_set_trainable, tn_session_begin_round, steps, tn_session_get_trainable
 *   SCAFFOLD   the same, and before it tn_session_set_kept(TN_KEPT_SERVER_CONTROL), after it
 *              tn_session_renew_control: the client's variate before and after tells its change
 *   DiLoCo     steps, tn_session_get_trainable, then, once the mean of all replicas' is there,
 *              tn_session_set_trainable and tn_session_outer_step
 *
 * A new session has begun a round. Rounds change between updates, not between micro-steps; outputs of
 * the last step are gone then.
 */

/* What a session may keep beside each parameter that trains, in its shape: zeros at first, but for
 * the anchor. */
typedef int32_t tn_kept;
enum {
  TN_KEPT_ANCHOR = 0,         /* the parameters as the round began: with any of the options */
  TN_KEPT_CONTROL = 1,        /* SCAFFOLD's c_i, this client's */
  TN_KEPT_SERVER_CONTROL = 2, /* SCAFFOLD's c, the server's */
  TN_KEPT_OUTER_MOMENTUM = 3  /* of tn_session_outer_step */
};

/* Copies what is kept out into one buffer, laid out as tn_session_get_trainable does; zeros for a
 * parameter that the loss does not depend on.
 * One thread. Fails: ARGUMENT. Since 100. */
tn_status tn_session_get_kept(tn_session *session, tn_kept kept, void *data, size_t size);

/* Copies what is kept in from such a buffer.
 * One thread. Fails: ARGUMENT. Since 100. */
tn_status tn_session_set_kept(tn_session *session, tn_kept kept, const void *data, size_t size);

/* Begins a round: the anchor is what the parameters are now.
 * One thread. Fails: ARGUMENT, DEVICE. Since 100. */
tn_status tn_session_begin_round(tn_session *session);

/* Renews this client's control variate at a round's end: c_i = c_i - c + (anchor - w) / (sum of the
 * learning rates of the round's updates), SCAFFOLD's second option.
 * One thread. Fails: ARGUMENT, DEVICE. Since 100. */
tn_status tn_session_renew_control(tn_session *session);

/* The outer optimizer's step, and the beginning of a new round: with g = anchor - w,
 * v = momentum v + g, both w and the anchor become anchor - outer_lr (g + momentum v).
 * One thread. Fails: ARGUMENT, DEVICE. Since 100. */
tn_status tn_session_outer_step(tn_session *session);

/* ---- private training ------------------------------------------------------------------- */

/*
 * With sample_clip_norm C, samples B and noise_multiplier S, a step's gradient is the mean over the
 * batch of each sample's own, scaled down to norm C where it is longer, plus normal noise of
 * deviation S C / B; over A micro-steps it is one batch of A B samples, with noise of S C / (A B).
 * No gradient of a sample is kept, or made where its norm can be had for less.
 *
 * Samples are B equal parts of the first axis of every input that has so many, and the loss is the
 * mean over them; where targets can be ignored, a sample's loss is the mean over its own that count,
 * and a sample of which none counts adds nothing: so a batch drawn at random is filled up. An op
 * that mixes samples on the way (batch_norm, a product of samples) is an error at session creation,
 * as are a language model's head that trains, kept gradients, and parts of a model. Everything that
 * clip_norm, proximal and other options do comes after the noise.
 *
 * Updates of one seed are the same each time: never use a seed again for other data, and give it to
 * no one. The noise comes from a generator made for simulation, not from a cipher. The loss that a
 * step tells has no noise. What privacy an update costs is for the caller to account for.
 */

/* ---- parts of a model ------------------------------------------------------------------- */

/*
 * A model that is too large for one device, or whose data must not leave it, runs in parts: a
 * session each, with whatever carries bytes between them. A step of two parts that meet at "x":
 *
 *   first part                                      second part
 *   tn_session_forward, read "x"              ->    write "x", tn_session_step
 *   write "grad/x", tn_session_step           <-    read "grad/x"
 *
 * and an evaluation: tn_session_evaluate, read "x" -> write "x", tn_session_evaluate. A part may
 * both receive and send. Together the parts do what one session of the whole does; every part has an
 * optimizer of its own, and clips to the norm of its own gradients.
 */

/* Sends `value`, f32, on to another part: the session's output `name`, as `dtype`. Where `trains` is
 * not 0, the gradient of the whole's loss toward it comes back: the session's input `grad/NAME`, of
 * the same type, which is written between tn_session_forward and tn_session_step.
 * TN_F32 travels as it is. TN_F16 and TN_BF16 round to nearest, by at most 1/2048 (below 65504) and
 * 1/256 of each value; TN_Q8_0, an int8 code for each value and a scale for 32 along the last axis,
 * which must be a multiple of 32, by at most 1/220 of the largest of the 32. Other block formats
 * may be used at their own loss. Gradients pass the rounding as if it were not there.
 * One thread. Fails: ARGUMENT, SHAPE, GRAPH. Since 100. */
tn_status tn_graph_send(tn_graph *graph, const char *name, tn_dtype dtype, tn_value value,
                        int32_t trains);

/* Receives a value of another part as the input `name`, of such a type and shape; *value is it in
 * f32. Where `trains` is not 0, each step gives the loss's gradient toward it as the output
 * `grad/NAME`, in the same type.
 * One thread. Fails: ARGUMENT, SHAPE, GRAPH. Since 100. */
tn_status tn_graph_receive(tn_graph *graph, const char *name, tn_dtype dtype, const int64_t *dims,
                           size_t rank, int32_t trains, tn_value *value);

/* Runs a session that sends values which gradients come back for as far as it gets without them:
 * its outputs so far can be read then. The next tn_session_step goes on from there; until then all
 * that it needs stays in the memory of the plan. What takes that memory (tn_session_evaluate,
 * tn_session_set_memory_budget) or comes first (another tn_session_forward) ends the wait: the step
 * is refused then, and nothing is run twice unless this is called twice. Inputs and parameters must
 * stay as they are meanwhile. `options` may be NULL.
 * One thread. Fails: ARGUMENT, SHAPE, IO, UNSUPPORTED, CANCELLED, DEVICE. Since 100. */
tn_status tn_session_forward(tn_session *session, const tn_run_options *options);

/* ---- exchange of parameters ------------------------------------------------------------- */

/*
 * What federated clients and their server exchange is vectors of f32: parameters one after the
 * other, or the difference of two such vectors. A client's round, and the server's:
 *
 *   tn_parameters_write(s, set, start, n);                         the server's parameters
 *   tn_session_write, tn_session_step ...
 *   tn_parameters_difference(s, set, start, update, n);
 *   tn_update_compress(cx, &how, update, residual, n, bytes, capacity, &size);   and send them
 *
 *   tn_update_add(cx, share, bytes, size, sum, n);                 for every client
 *   start[i] += sum[i]: tn_update_accumulate(cx, 1, sum, start, n)
 *
 * Vectors are the caller's own, aligned as their type asks, and do not overlap others of the call,
 * which is refused; they may be NULL where their length is 0. Messages are bytes at any address. Functions on
 * vectors run on the context's threads; all but the selection of elements keep the pace of memory. Bits
 * do not depend on the number of threads or the instruction set.
 */

/* A set of a session's parameters: the first so many by their index. Adapters come first, then what
 * else trains, then the rest, so that a parameter lies at the same place in the vector of every set
 * that has it: after the elements of those before it. */
typedef int32_t tn_set;
enum {
  TN_SET_TRAINABLE = 0, /* what trains */
  TN_SET_ALL = 1,
  TN_SET_ADAPTERS = 2 /* low-rank adapters, `*.lora_A.weight` and `*.lora_B.weight`, that train */
};

/* A model of the shapes that a file tells, with zeros in the place of weights, to be written with
 * what a server sends: a .gguf file, of which only what comes before the data must be there, or a
 * config.json (or a folder with one), for f32. The file is not needed afterwards. Sessions of such a
 * model share the memory of weights that do not train, and write it by tn_session_write: none of them
 * may run meanwhile.
 * Any thread. Fails: ARGUMENT, NOT_FOUND, IO, FORMAT, MEMORY. Since 100. */
tn_status tn_model_empty(tn_context *context, const char *path, tn_model **model);

/* How many parameters and elements a set has. Both may be NULL.
 * One thread. Fails: ARGUMENT. Since 100. */
tn_status tn_parameters_count(tn_session *session, tn_set set, size_t *parameters,
                              size_t *elements);

/* Copies a set out, as f32: weight formats are decoded. `count` is that of its elements.
 * One thread. Fails: ARGUMENT. Since 100. */
tn_status tn_parameters_read(tn_session *session, tn_set set, float *data, size_t count);

/* Copies a set in. All of it must be f32 and not mapped from a file: what is neither can be left out
 * by a smaller set, or begins with tn_model_empty and is written by its name.
 * One thread. Fails: ARGUMENT. Since 100. */
tn_status tn_parameters_write(tn_session *session, tn_set set, const float *data, size_t count);

/* update = parameters - start.
 * One thread. Fails: ARGUMENT. Since 100. */
tn_status tn_parameters_difference(tn_session *session, tn_set set, const float *start,
                                   float *update, size_t count);

/* parameters += factor * update; as tn_parameters_write.
 * One thread. Fails: ARGUMENT. Since 100. */
tn_status tn_parameters_add(tn_session *session, tn_set set, float factor, const float *update,
                            size_t count);

/* sum += weight * update: with the client's share of all examples as the weight, FedAvg.
 * Any thread. Fails: ARGUMENT. Since 100. */
tn_status tn_update_accumulate(tn_context *context, float weight, const float *update, float *sum,
                               size_t count);

/* sum[i] /= weights[i], and 0 where that is 0: the mean of what not all clients have.
 * Any thread. Fails: ARGUMENT. Since 100. */
tn_status tn_update_average(tn_context *context, const float *weights, float *sum, size_t count);

/* How a vector is compressed. Of `keep` elements sent alone, those of largest magnitude go, of equal
 * ones the first; their places take about log2(count / keep) + 1.5 bits each. Codes of `bits` bits
 * share a scale by 256 and are rounded at random, right in the mean: by less than 1/127, 1/7 or 1 of
 * the largest of the 256 for 8, 4 and 2. 1 % of the elements with 4 bits each take 1/240 of f32. */
typedef struct tn_compression {
  size_t struct_size;
  uint64_t keep;   /* elements to send; 0, or as many as there are: all */
  uint32_t bits;   /* of a value: 2, 4, 8 or 32 (f32); 0: 32 */
  uint32_t unused; /* 0 */
  uint64_t seed;   /* of rounding: equal seeds and rounds give equal bytes */
  uint64_t round;  /* the round's number, or any that is not used twice with the seed */
} tn_compression;

/* Most bytes that a compressed vector of `count` elements takes. `how` may be NULL: f32, all.
 * Any thread. Fails: ARGUMENT, MEMORY. Since 100. */
tn_status tn_update_bound(tn_context *context, const tn_compression *how, size_t count,
                          size_t *size);

/* Compresses update + residual into `bytes`, which has room for tn_update_bound; *size gets how
 * many were taken. `residual` gets what was not sent, for the next round; zeros at first; NULL: that
 * is dropped. Elements must be finite, their sums too; at most 2^32 - 1 where not all are kept.
 * Where the call fails, what `bytes` holds is unspecified; all else is as it was. `how` may be NULL.
 * The bytes say what they are: version, sizes, widths. Any later library reads them, on any machine.
 * Any thread. Fails: ARGUMENT, MEMORY. Since 100. */
tn_status tn_update_compress(tn_context *context, const tn_compression *how, const float *update,
                             float *residual, size_t count, void *bytes, size_t capacity,
                             size_t *size);

/* What compressed bytes say of themselves. */
typedef struct tn_message {
  size_t struct_size;
  uint64_t count;  /* elements of the vector */
  uint64_t kept;   /* elements sent */
  uint32_t bits;   /* of a value */
  uint32_t unused; /* 0 */
} tn_message;

/* Checks compressed bytes, whoever sent them. Set message->struct_size before.
 * Any thread. Fails: ARGUMENT, FORMAT. Since 100. */
tn_status tn_update_inspect(tn_context *context, const void *bytes, size_t size,
                            tn_message *message);

/* sum += weight * the vector that was compressed: straight from the bytes, which may be hostile.
 * Any thread. Fails: ARGUMENT, FORMAT. Since 100. */
tn_status tn_update_add(tn_context *context, float weight, const void *bytes, size_t size,
                        float *sum, size_t count);

/* Fixed point modulo 2^32, so that masks cancel: numbers are cut to -clip to clip and counted in
 * units of 1 / scale, rounded to the nearest, where scale is the largest power of two with
 * clients * clip * scale < 2^31. All clients and the server use the same. */
typedef struct tn_fixed_point {
  size_t struct_size;
  float clip;       /* the largest magnitude, after the weight; positive */
  uint32_t clients; /* the most vectors that are summed; not 0 */
} tn_fixed_point;

/* words = weight * x in fixed point; NaN becomes 0.
 * Any thread. Fails: ARGUMENT. Since 100. */
tn_status tn_secure_encode(tn_context *context, const tn_fixed_point *fixed, float weight,
                           const float *x, uint32_t *words, size_t count);

/* A mask: words that two clients make from a seed that they share and no one else knows. One adds
 * it, the other takes it away. The generator (Philox 4x32-10, its key the seed, its stream the
 * round) is made for statistics and is no cipher: against more than curiosity, make masks by other
 * means and add them by tn_secure_add. */
typedef struct tn_mask {
  size_t struct_size;
  uint64_t seed;    /* what the two share */
  uint64_t round;   /* another in every round: masks must not be used twice */
  int32_t negative; /* not 0: it is taken away */
  int32_t unused;   /* 0 */
} tn_mask;

/* Adds masks to a vector. Where a client is lost after others have masked against it, the server
 * takes back each such mask by the same seed and round and the other sign.
 * Any thread. Fails: ARGUMENT. Since 100. */
tn_status tn_secure_mask(tn_context *context, const tn_mask *masks, size_t mask_count,
                         uint32_t *words, size_t count);

/* sum += words, modulo 2^32.
 * Any thread. Fails: ARGUMENT. Since 100. */
tn_status tn_secure_add(tn_context *context, const uint32_t *words, uint32_t *sum, size_t count);

/* x = factor * words, out of fixed point: of a sum whose masks are gone; with 1 / (sum of weights) as
 * the factor, the mean.
 * Any thread. Fails: ARGUMENT. Since 100. */
tn_status tn_secure_decode(tn_context *context, const tn_fixed_point *fixed, float factor,
                           const uint32_t *words, float *x, size_t count);

/* A window of an axis in all parameters whose names end alike: a width of the model, which has such a
 * line for each parameter that it runs through. The first units are HeteroFL's sub-model, a start that
 * is the round's number is FedRolex's. In an array, all have the same struct_size. */
typedef struct tn_axis {
  size_t struct_size;
  const char *parameters; /* what their names end in */
  uint32_t axis;          /* from 0 */
  uint32_t unit;          /* indices that belong together, as those of a head; 0: 1 */
  uint64_t length;        /* units in the window */
  uint64_t start;         /* the first of them, modulo the units there are: the window goes around */
} tn_axis;

/* A sub-model. Of a parameter, only name, rank and dims are read: tn_session_parameter gives them. */
typedef struct tn_submodel {
  size_t struct_size;
  const tn_parameter *parameters; /* of the whole set, in its order */
  size_t parameter_count;         /* how many */
  const tn_axis *axes; /* what they do not name stays whole; may be NULL where axis_count is 0 */
  size_t axis_count;   /* how many */
} tn_submodel;

/* How many elements a sub-model has.
 * Any thread. Fails: ARGUMENT, SHAPE, NOT_FOUND. Since 100. */
tn_status tn_submodel_count(tn_context *context, const tn_submodel *submodel, size_t *count);

/* Copies a sub-model out of a set's vector of `whole_count` elements into one of `part_count`.
 * Any thread. Fails: ARGUMENT, SHAPE, NOT_FOUND. Since 100. */
tn_status tn_submodel_extract(tn_context *context, const tn_submodel *submodel, const float *whole,
                              size_t whole_count, float *part, size_t part_count);

/* Adds weight * part to `sum`, where the sub-model lies in it, and the weight to the same elements
 * of `weights`: tn_update_average then gives each element the mean of those that have it. Of updates
 * rather than parameters, so that what no one has stays as it is.
 * Any thread. Fails: ARGUMENT, SHAPE, NOT_FOUND. Since 100. */
tn_status tn_submodel_add(tn_context *context, const tn_submodel *submodel, float weight,
                          const float *part, size_t part_count, float *sum, float *weights,
                          size_t whole_count);

#ifdef __cplusplus
}
#endif

#endif
