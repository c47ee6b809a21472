/*
 * What the hostile programs share: counted checks, places that a refused call must not write to,
 * and a small network in two copies, of which only one is treated badly.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tenon.h>

/* Not UTF-8. */
#define BROKEN "\xff\xfe"

static tn_context *cx;
static tn_graph *marker;
static unsigned checks, failures;

/* Where calls that are to be refused would write. */
static struct {
  tn_context *context;
  tn_graph *graph;
  tn_model *model;
  tn_session *session;
  const char *text;
  void *tensor;
  tn_value value;
  size_t size;
  size_t rank;
  int64_t dims[TN_MAX_RANK];
  float loss;
  char bytes[1024];
  tn_plan plan;
  tn_report report;
  tn_parameter parameter;
} out, before;

static inline void expect(int good, const char *what, int line) {
  checks++;
  if (good) return;
  failures++;
  printf("line %d: %s\n", line, what);
}

#define EXPECT(condition) expect(condition, #condition, __LINE__)

/* Ends the program where a call that must succeed does not. */
static inline void must(tn_status status, const char *what, int line) {
  char why[512];
  if (status == TN_OK) return;
  tn_error_message(cx, why, sizeof why);
  printf("line %d: %s: %s: %s\n", line, what, tn_status_text(status), why);
  exit(1);
}

#define MUST(call) must(call, #call, __LINE__)

/* Fills the places, and sets the context's message to one that no checked call gives. */
static inline void prepare(void) {
  memset(&out, 0x5a, sizeof out);
  out.plan.struct_size = sizeof out.plan;
  out.report.struct_size = sizeof out.report;
  out.parameter.struct_size = sizeof out.parameter;
  memcpy(&before, &out, sizeof out);
  tn_graph_output(marker, "none", 123456789);
}

static inline void refused(tn_status want, tn_status got, const char *what, int line) {
  char why[1024];
  size_t size = tn_error_message(cx, why, sizeof why);
  if (getenv("VERBOSE") != NULL) printf("%s\n    -> %d %s\n", what, (int)got, why);
  expect(got == want, what, line);
  if (got != want) printf("    status %d (%s), not %d: %s\n", (int)got, tn_status_text(got), (int)want, why);
  expect(size > 1 && strstr(why, "123456789") == NULL, what, line);
  expect(memcmp(&out, &before, sizeof out) == 0, what, line);
}

/* A call that must be refused with this status, give a message, and write nothing. */
#define REFUSED(want, call)                      \
  do {                                           \
    prepare();                                   \
    refused(want, call, #call, __LINE__);        \
  } while (0)

/* The same where there is no handle that a message could be asked of. */
#define REFUSED_BARE(call)                                             \
  do {                                                                 \
    prepare();                                                         \
    expect((call) == TN_ERROR_ARGUMENT, #call, __LINE__);              \
    expect(memcmp(&out, &before, sizeof out) == 0, #call, __LINE__);   \
  } while (0)

/* Every size that a struct cannot have. */
#define REFUSED_SIZES(given, call)                                                       \
  do {                                                                                   \
    const size_t sizes[] = {0, 1, sizeof(size_t), sizeof given / 2, 1 << 20, SIZE_MAX}; \
    for (size_t i_ = 0; i_ < sizeof sizes / sizeof *sizes; i_++) {                       \
      given.struct_size = sizes[i_];                                                     \
      REFUSED(TN_ERROR_ARGUMENT, call);                                                  \
    }                                                                                    \
    given.struct_size = sizeof given;                                                    \
  } while (0)

enum { ROWS = 4, WORDS = 10, WIDTH = 8, CLASSES = 3 };

/* A network: words -> embedding -> linear -> batch_norm -> relu -> linear -> cross_entropy. */
typedef struct network {
  tn_graph *graph;
  tn_session *session;
  tn_value words, table, hidden, logits, loss;
} network;

static inline float noise(void) {
  static uint32_t state = 7;
  state = state * 1664525u + 1013904223u;
  return (float)(state >> 8) / 8388608.0f - 1.0f;
}

static inline tn_value weight(tn_graph *graph, const char *name, int64_t rows, int64_t cols,
                              const float *data) {
  const int64_t dims[2] = {rows, cols};
  const size_t rank = cols > 0 ? 2 : 1;
  const size_t size = (size_t)(rows * (cols > 0 ? cols : 1)) * sizeof *data;
  tn_value value;
  MUST(tn_graph_parameter(graph, name, TN_F32, dims, rank, data, size, 1, &value));
  return value;
}

/* Equal arguments give equal networks. */
static inline network make_network(const float *data, const tn_train_options *options) {
  const int64_t rows[1] = {ROWS}, width[1] = {WIDTH};
  network n;
  tn_value in[5], made[3], targets;
  MUST(tn_graph_create(cx, &n.graph));
  MUST(tn_graph_input(n.graph, "words", TN_I32, rows, 1, &n.words));
  MUST(tn_graph_input(n.graph, "targets", TN_I32, rows, 1, &targets));
  in[0] = n.table = weight(n.graph, "table", WORDS, WIDTH, data);
  in[1] = n.words;
  MUST(tn_graph_add(n.graph, "embedding", NULL, 0, in, 2, made, 1, NULL));
  in[0] = made[0];
  in[1] = weight(n.graph, "w", WIDTH, WIDTH, data + 80);
  in[2] = weight(n.graph, "b", WIDTH, 0, data + 150);
  MUST(tn_graph_add(n.graph, "linear", NULL, 0, in, 3, &n.hidden, 1, NULL));
  in[0] = n.hidden;
  MUST(tn_graph_state(n.graph, "mean", TN_F32, width, 1, &in[1]));
  MUST(tn_graph_state(n.graph, "variance", TN_F32, width, 1, &in[2]));
  in[3] = weight(n.graph, "scale", WIDTH, 0, data + 160);
  in[4] = weight(n.graph, "shift", WIDTH, 0, data + 170);
  MUST(tn_graph_add(n.graph, "batch_norm", NULL, 0, in, 5, made, 3, NULL));
  MUST(tn_graph_add(n.graph, "relu", NULL, 0, made, 1, in, 1, NULL));
  in[1] = weight(n.graph, "head", CLASSES, WIDTH, data + 180);
  MUST(tn_graph_add(n.graph, "linear", NULL, 0, in, 2, &n.logits, 1, NULL));
  MUST(tn_graph_output(n.graph, "logits", n.logits));
  in[0] = n.logits;
  in[1] = targets;
  MUST(tn_graph_add(n.graph, "cross_entropy", NULL, 0, in, 2, &n.loss, 1, NULL));
  MUST(tn_session_create(n.graph, n.loss, options, &n.session));
  return n;
}

static inline void free_network(network n) {
  tn_session_destroy(n.session);
  tn_graph_destroy(n.graph);
}

/* The same batch for both; another each time. */
static inline void write_batch(network a, network b) {
  int32_t words[ROWS], targets[ROWS];
  for (int i = 0; i < ROWS; i++) {
    words[i] = (int32_t)((noise() + 1.0f) * 0.499f * WORDS);
    targets[i] = (int32_t)((noise() + 1.0f) * 0.499f * CLASSES);
  }
  MUST(tn_session_write(a.session, "words", words, sizeof words));
  MUST(tn_session_write(b.session, "words", words, sizeof words));
  MUST(tn_session_write(a.session, "targets", targets, sizeof targets));
  MUST(tn_session_write(b.session, "targets", targets, sizeof targets));
}

static inline int same_bytes(network a, network b, const char *name, size_t size) {
  char left[2048], right[2048];
  MUST(tn_session_read(a.session, name, left, size));
  MUST(tn_session_read(b.session, name, right, size));
  return memcmp(left, right, size) == 0;
}

/* Steps both and compares every bit of what they then are. */
static inline void same_twins(network a, network b, int line) {
  tn_report left, right;
  size_t size;
  char *all[2];
  memset(&left, 0, sizeof left);
  left.struct_size = sizeof left;
  right = left;
  write_batch(a, b);
  MUST(tn_session_step(a.session, NULL, &left));
  MUST(tn_session_step(b.session, NULL, &right));
  expect(memcmp(&left, &right, sizeof left) == 0, "the twins' reports are the same", line);
  MUST(tn_session_trainable_size(a.session, &size));
  all[0] = (char *)malloc(2 * size);
  if (all[0] == NULL) exit(1);
  all[1] = all[0] + size;
  MUST(tn_session_get_trainable(a.session, all[0], size));
  MUST(tn_session_get_trainable(b.session, all[1], size));
  expect(memcmp(all[0], all[1], size) == 0, "the twins' parameters are the same", line);
  expect(same_bytes(a, b, "mean", WIDTH * sizeof(float)), "the twins' means are the same", line);
  expect(same_bytes(a, b, "logits", ROWS * CLASSES * sizeof(float)), "the logits are the same", line);
  free(all[0]);
}

/* Sets the above up, and gives it back. */
static inline void begin(void) {
  MUST(tn_context_create(NULL, &cx));
  MUST(tn_graph_create(cx, &marker));
}

static inline int end(void) {
  tn_graph_destroy(marker);
  tn_context_destroy(cx);
  printf("%u checks, %u failures\n", checks, failures);
  return failures != 0 || checks == 0;
}

#endif
