/*
 * A caller of every version: it uses what the header of 0.1.0 has, and is compiled with the header of
 * each release (tests/abi), with today's and with tomorrow's, in which every struct has a field more
 * and there is a function that no library has yet. Run with today's library it stands for an old
 * caller of a newer library, and for a new caller of an older one. It must compute the same bits.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tenon.h>

enum { ROWS = 8, WIDTH = 6, CLASSES = 3, COUNT = CLASSES * WIDTH, STEPS = 5, GUARD = 64, MARK = 0x5a };

static tn_context *cx;
static unsigned checks, failures, progressed, logged;
static long live;

static void expect(int good, const char *what, int line) {
  char why[512];
  checks++;
  if (good) return;
  failures++;
  tn_error_message(cx, why, sizeof why);
  printf("line %d: %s: %s\n", line, what, why);
}

#define EXPECT(condition) expect(condition, #condition, __LINE__)

/* A struct as this header knows it, and what lies behind it, which no library may touch. */
#define GUARDED(type)           \
  struct {                      \
    type it;                    \
    unsigned char guard[GUARD]; \
  }

/* Sets all bytes of one, and its size; gives the struct. */
static void *mark(void *guarded, size_t size, int byte) {
  memset(guarded, byte, size);
  memset((char *)guarded + size, MARK, GUARD);
  memcpy(guarded, &size, sizeof size);
  return guarded;
}

#define OPTIONS(given) mark(&given, sizeof given.it, 0)
#define REPORT(given) mark(&given, sizeof given.it, MARK)

static int guarded(const unsigned char *guard) {
  for (int i = 0; i < GUARD; i++)
    if (guard[i] != MARK) return 0;
  return 1;
}

#ifdef TN_TOMORROW
/* A field that the library does not know is refused where it is set, in any struct. */
#define TOMORROW(given, call)                 \
  do {                                        \
    given.it.tomorrow = 1;                    \
    EXPECT((call) == TN_ERROR_ARGUMENT);      \
    given.it.tomorrow = 0;                    \
  } while (0)
/* It leaves one of a report as it was. */
#define UNTOUCHED(given) EXPECT(given.it.tomorrow == MARK * 0x0101010101010101u)
#else
#define TOMORROW(given, call) (void)0
#define UNTOUCHED(given) (void)0
#endif

static void *allocate(void *user, size_t size, size_t alignment) {
  char *memory = (char *)malloc(size + alignment + sizeof memory), *start = memory;
  (void)user;
  if (memory == NULL) exit(1);
  memory += sizeof memory;
  memory += (alignment - (uintptr_t)memory % alignment) % alignment;
  memcpy(memory - sizeof start, &start, sizeof start);
  live++;
  return memory;
}

static void release(void *user, void *memory, size_t size) {
  char *start;
  (void)user, (void)size;
  memcpy(&start, (char *)memory - sizeof start, sizeof start);
  free(start);
  live--;
}

static void log_to(void *user, const char *message) {
  (void)user;
  logged += *message != '\0';
}

static int32_t progress(void *user, uint64_t done, uint64_t total) {
  (void)user;
  progressed += done < total;
  return 0;
}

static void make_context(void) {
  GUARDED(tn_allocator) allocator;
  GUARDED(tn_context_options) options;
  OPTIONS(allocator);
  allocator.it.allocate = allocate;
  allocator.it.release = release;
  OPTIONS(options);
  options.it.threads = 2;
  options.it.allocator = &allocator.it;
  options.it.log = log_to;
  TOMORROW(options, tn_context_create(&options.it, &cx));
  TOMORROW(allocator, tn_context_create(&options.it, &cx));
  EXPECT(tn_context_create(&options.it, &cx) == TN_OK);
  EXPECT(tn_error_message(cx, NULL, 0) == 1);
}

/* The mean square of how far w x is below the largest of its row: ops with attributes. */
static tn_session *make_session(tn_value *loss) {
  const int64_t x_dims[2] = {ROWS, WIDTH}, w_dims[2] = {CLASSES, WIDTH}, axes[1] = {1};
  float x[ROWS * WIDTH], w[COUNT];
  tn_attr attrs[2];
  GUARDED(tn_train_options) how;
  GUARDED(tn_plan) plan;
  tn_graph *graph;
  tn_session *session = NULL;
  tn_value in[2], value;
  size_t rank, outputs;
  int64_t dims[TN_MAX_RANK];
  for (int i = 0; i < ROWS * WIDTH; i++) x[i] = (float)(i % 11) * 0.25f - 1.0f;
  for (int i = 0; i < COUNT; i++) w[i] = (float)(i % 5) * 0.125f;
  EXPECT(tn_graph_create(cx, &graph) == TN_OK);
  EXPECT(tn_graph_input(graph, "x", TN_F32, x_dims, 2, &in[0]) == TN_OK);
  EXPECT(tn_graph_parameter(graph, "w", TN_F32, w_dims, 2, w, sizeof w, 1, &in[1]) == TN_OK);
  EXPECT(tn_graph_add(graph, "linear", NULL, 0, in, 2, &value, 1, &outputs) == TN_OK && outputs == 1);
  attrs[0] = tn_attr_ints("axes", axes, 1);
  attrs[1] = tn_attr_bool("keepdims", 1);
  in[0] = value;
  EXPECT(tn_graph_add(graph, "reduce_max", attrs, 2, in, 1, &in[1], 1, NULL) == TN_OK);
  EXPECT(tn_graph_shape(graph, in[1], dims, &rank) == TN_OK && rank == 2 && dims[1] == 1);
  EXPECT(tn_graph_add(graph, "sub", NULL, 0, in, 2, in, 1, NULL) == TN_OK);
  attrs[0] = tn_attr_float("lo", -4.0);
  attrs[1] = tn_attr_float("hi", 0.5);
  EXPECT(tn_graph_add(graph, "clamp", attrs, 2, in, 1, in, 1, NULL) == TN_OK);
  EXPECT(tn_graph_add(graph, "square", NULL, 0, in, 1, in, 1, NULL) == TN_OK);
  EXPECT(tn_graph_add(graph, "reduce_mean", NULL, 0, in, 1, loss, 1, NULL) == TN_OK);
  OPTIONS(how);
  how.it.optimizer = TN_SGD;
  how.it.lr = 0.5f;
  how.it.momentum = 0.5f;
  REPORT(plan);
  TOMORROW(how, tn_plan_graph(graph, *loss, &how.it, &plan.it));
  EXPECT(tn_plan_graph(graph, *loss, &how.it, &plan.it) == TN_OK);
  EXPECT(plan.it.nodes > 5 && plan.it.planned_peak_bytes > 0 && guarded(plan.guard));
  UNTOUCHED(plan);
  EXPECT(tn_session_create(graph, *loss, &how.it, &session) == TN_OK && guarded(how.guard));
  tn_graph_destroy(graph);
  EXPECT(tn_session_write(session, "x", x, sizeof x) == TN_OK);
  return session;
}

static float train(tn_session *session) {
  GUARDED(tn_run_options) run;
  GUARDED(tn_report) report;
  float first = 0, loss;
  OPTIONS(run);
  run.it.progress = progress;
  REPORT(report);
  TOMORROW(run, tn_session_step(session, &run.it, &report.it));
  for (int step = 0; step < STEPS; step++) {
    EXPECT(tn_session_step(session, &run.it, &report.it) == TN_OK && guarded(report.guard));
    if (step == 0) first = report.it.loss;
  }
  EXPECT(progressed > 0 && report.it.step == STEPS && report.it.lr == 0.5f);
  UNTOUCHED(report);
  EXPECT(tn_session_evaluate(session, &run.it, &loss) == TN_OK && loss < first);
  return loss;
}

/* What a client sends, and a sub-model. */
static void exchange(tn_session *session, float *trained, float *sum) {
  const float start[COUNT] = {0};
  float update[COUNT], part[COUNT], weights[COUNT] = {0};
  uint32_t words[COUNT];
  unsigned char bytes[1024];
  size_t size, count, total, index;
  GUARDED(tn_compression) how;
  GUARDED(tn_message) message;
  GUARDED(tn_fixed_point) fixed;
  GUARDED(tn_parameter) parameter;
  GUARDED(tn_submodel) submodel;
  tn_mask masks[2];
  tn_axis axes[2];
  EXPECT(tn_parameters_count(session, TN_SET_TRAINABLE, &count, &total) == TN_OK && total == COUNT);
  EXPECT(tn_parameters_read(session, TN_SET_TRAINABLE, trained, COUNT) == TN_OK);
  EXPECT(tn_parameters_difference(session, TN_SET_TRAINABLE, start, update, COUNT) == TN_OK);
  OPTIONS(how);
  how.it.bits = 8;
  EXPECT(tn_update_bound(cx, &how.it, COUNT, &size) == TN_OK && size <= sizeof bytes);
  TOMORROW(how, tn_update_bound(cx, &how.it, COUNT, &size));
  EXPECT(tn_update_compress(cx, &how.it, update, NULL, COUNT, bytes, sizeof bytes, &size) == TN_OK);
  REPORT(message);
  EXPECT(tn_update_inspect(cx, bytes, size, &message.it) == TN_OK && guarded(message.guard));
  EXPECT(message.it.count == COUNT && message.it.bits == 8);
  UNTOUCHED(message);
  EXPECT(tn_update_add(cx, 1.0f, bytes, size, sum, COUNT) == TN_OK);
  OPTIONS(fixed);
  fixed.it.clip = 8.0f;
  fixed.it.clients = 4;
  TOMORROW(fixed, tn_secure_encode(cx, &fixed.it, 1.0f, update, words, COUNT));
  EXPECT(tn_secure_encode(cx, &fixed.it, 1.0f, update, words, COUNT) == TN_OK);
  memset(masks, 0, sizeof masks);
  for (int i = 0; i < 2; i++) {
    masks[i].struct_size = sizeof masks[i];
    masks[i].seed = 5;
    masks[i].negative = i;
  }
  EXPECT(tn_secure_mask(cx, masks, 2, words, COUNT) == TN_OK);
  EXPECT(tn_secure_decode(cx, &fixed.it, 1.0f, words, part, COUNT) == TN_OK);
  for (int i = 0; i < COUNT; i++) EXPECT(part[i] - update[i] < 1e-6f && update[i] - part[i] < 1e-6f);
  REPORT(parameter);
  EXPECT(tn_session_parameter(session, 0, &parameter.it) == TN_OK && guarded(parameter.guard));
  EXPECT(strcmp(parameter.it.name, "w") == 0 && parameter.it.dims[1] == WIDTH);
  UNTOUCHED(parameter);
  mark(&parameter, sizeof parameter.it, 0);
  EXPECT(tn_session_parameter(session, 0, &parameter.it) == TN_OK);
  memset(axes, 0, sizeof axes);
  for (uint32_t i = 0; i < 2; i++) {
    axes[i].struct_size = sizeof axes[i];
    axes[i].parameters = "w";
    axes[i].axis = i;
    axes[i].length = 2;
  }
  OPTIONS(submodel);
  submodel.it.parameters = &parameter.it;
  submodel.it.parameter_count = 1;
  submodel.it.axes = axes;
  submodel.it.axis_count = 2;
  TOMORROW(submodel, tn_submodel_count(cx, &submodel.it, &index));
  EXPECT(tn_submodel_count(cx, &submodel.it, &index) == TN_OK && index == 4);
  EXPECT(tn_submodel_extract(cx, &submodel.it, trained, COUNT, part, 4) == TN_OK);
  EXPECT(part[3] == trained[WIDTH + 1]);
  EXPECT(tn_submodel_add(cx, &submodel.it, 2.0f, part, 4, sum, weights, COUNT) == TN_OK);
}

#ifdef TN_TOMORROW
#include <dlfcn.h>
/* A caller that may run with older libraries asks for what is new: by the version, by the linker where
 * it is weak, or by its name. */
#pragma weak tn_tomorrow
static void ask(void) {
  tn_status (*volatile tomorrow)(tn_context *) = tn_tomorrow;
  EXPECT(tn_version() < TN_VERSION);
  EXPECT(tomorrow == NULL);
  EXPECT(dlsym(NULL, "tn_tomorrow") == NULL);
}
#else
static void ask(void) { EXPECT(tn_version() >= TN_VERSION); }
#endif

int main(void) {
  float trained[COUNT], sum[COUNT] = {0}, loss;
  uint32_t hash = 2166136261u;
  tn_value value;
  tn_session *session;
  ask();
  make_context();
  session = make_session(&value);
  loss = train(session);
  exchange(session, trained, sum);
  tn_session_destroy(session);
  tn_context_destroy(cx);
  cx = NULL;
  EXPECT(live == 0 && logged > 0);
  for (size_t i = 0; i < sizeof trained; i++) hash = (hash ^ ((unsigned char *)trained)[i]) * 16777619u;
  for (size_t i = 0; i < sizeof sum; i++) hash = (hash ^ ((unsigned char *)sum)[i]) * 16777619u;
  printf("loss %.6f, bits %08x\n%u checks, %u failures\n", loss, (unsigned)hash, checks, failures);
  return failures != 0;
}
