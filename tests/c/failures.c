/*
 * A caller's memory that refuses the n-th request, for every n:
 *
 *   failures SCRATCH FOLDER GGUF
 *
 * in a life of a graph and its sessions, in one of a model of safetensors that trains whole, and in
 * one of a GGUF model with adapters. A call that meets the refusal must say so, with a message; made
 * again it must succeed, and in the end every bit must be as without the refusal, and all memory be
 * back.
 */
#include "check.h"
#include "heap.h"

typedef struct heap {
  long asked, refuse; /* requests so far, and the one that is refused */
  long live;
  size_t bytes;
} heap;

static const char *scratch, *folder, *gguf;
static heap memory;
static long refusals;

static void *allocate(void *user, size_t size, size_t alignment) {
  heap *h = (heap *)user;
  if (++h->asked == h->refuse) return NULL;
  h->live++;
  h->bytes += size;
  return heap_take(size, alignment);
}

static void release(void *user, void *memory, size_t size) {
  heap *h = (heap *)user;
  heap_give(memory, size);
  h->live--;
  h->bytes -= size;
}

/* Made once more where there was no memory. */
#define AGAIN(call)                                            \
  do {                                                         \
    tn_status status_ = (call);                                \
    if (status_ == TN_ERROR_MEMORY) {                          \
      EXPECT(memory.asked >= memory.refuse);                   \
      EXPECT(tn_error_message(cx, NULL, 0) > 1);               \
      refusals++;                                              \
      status_ = (call);                                        \
    }                                                          \
    must(status_, #call, __LINE__);                            \
  } while (0)

/* What a life leaves: bytes that must not depend on refusals. */
typedef struct life {
  unsigned char bytes[1 << 16];
  size_t size;
} life;

static void keep(life *l, const void *bytes, size_t size) {
  if (l->size + size > sizeof l->bytes) {
    /* Enough of it. */
    size = sizeof l->bytes - l->size;
  }
  memcpy(l->bytes + l->size, bytes, size);
  l->size += size;
}

static const char *path(const char *name) {
  static char text[512];
  snprintf(text, sizeof text, "%s/%s", scratch, name);
  return text;
}

static void open_context(void) {
  tn_allocator allocator;
  tn_context_options options;
  memset(&allocator, 0, sizeof allocator);
  allocator.struct_size = sizeof allocator;
  allocator.user = &memory;
  allocator.allocate = allocate;
  allocator.release = release;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.threads = 2;
  options.allocator = &allocator;
  AGAIN(tn_context_create(&options, &cx));
}

/* Everything that trains, at the end of a life. */
static void keep_trained(life *l, tn_session *session) {
  size_t size;
  void *data;
  AGAIN(tn_session_trainable_size(session, &size));
  data = malloc(size);
  if (data == NULL) exit(1);
  AGAIN(tn_session_get_trainable(session, data, size));
  keep(l, data, size);
  free(data);
}

static void step(life *l, tn_session *session) {
  tn_report report;
  memset(&report, 0, sizeof report);
  report.struct_size = sizeof report;
  AGAIN(tn_session_step(session, NULL, &report));
  keep(l, &report, sizeof report);
}

/* What a client and a server do with what a session has learnt. */
static void exchange(life *l, tn_session *session) {
  tn_compression how = {sizeof how, 9, 4, 0, 5, 1};
  tn_fixed_point fixed = {sizeof fixed, 4.0f, 2};
  tn_mask mask = {sizeof mask, 3, 1, 0, 0};
  tn_message message;
  size_t parameters, n, most, size;
  float *start, *update, *residual, *sum;
  uint32_t *words;
  char *bytes;
  AGAIN(tn_parameters_count(session, TN_SET_TRAINABLE, &parameters, &n));
  start = (float *)calloc(n, 4 * sizeof *start);
  words = (uint32_t *)malloc(n * sizeof *words);
  AGAIN(tn_update_bound(cx, &how, n, &most));
  bytes = (char *)malloc(most);
  if (start == NULL || words == NULL || bytes == NULL) exit(1);
  update = start + n;
  residual = update + n;
  sum = residual + n;
  AGAIN(tn_parameters_read(session, TN_SET_TRAINABLE, start, n));
  step(l, session);
  AGAIN(tn_parameters_difference(session, TN_SET_TRAINABLE, start, update, n));
  AGAIN(tn_update_compress(cx, &how, update, residual, n, bytes, most, &size));
  message.struct_size = sizeof message;
  AGAIN(tn_update_inspect(cx, bytes, size, &message));
  AGAIN(tn_update_add(cx, 0.5f, bytes, size, sum, n));
  AGAIN(tn_secure_encode(cx, &fixed, 1.0f, sum, words, n));
  AGAIN(tn_secure_mask(cx, &mask, 1, words, n));
  mask.negative = 1;
  AGAIN(tn_secure_mask(cx, &mask, 1, words, n));
  AGAIN(tn_secure_decode(cx, &fixed, 1.0f, words, sum, n));
  AGAIN(tn_parameters_add(session, TN_SET_TRAINABLE, 1.0f, sum, n));
  keep(l, bytes, size);
  free(start);
  free(words);
  free(bytes);
}

/* A network by ops, with everything that a session may keep; planned anew, saved and resumed. */
static void graph_life(life *l) {
  const int64_t dims[2] = {8, 8}, rows[1] = {8};
  tn_graph *graph[2];
  tn_session *session[2];
  tn_train_options options;
  tn_plan plan;
  tn_value in[2], y;
  float data[64], loss;
  int32_t targets[8];
  void *shared;
  for (int i = 0; i < 64; i++) data[i] = (float)(i * 37 % 19) / 9.0f - 1.0f;
  for (int i = 0; i < 8; i++) targets[i] = i * 5 % 8;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.accumulation = 2;
  options.keep_gradients = 1;
  options.clip_norm = 1.0f;
  options.proximal = 0.1f;
  options.control_variates = 1;
  options.outer_lr = 0.7f;
  options.outer_momentum = 0.9f;
  options.state = TN_STATE_INT8;
  for (int i = 0; i < 2; i++) {
    AGAIN(tn_graph_create(cx, &graph[i]));
    AGAIN(tn_graph_input(graph[i], "x", TN_F32, dims, 2, &in[0]));
    for (int layer = 0; layer < 3; layer++) {
      const char *names[] = {"a", "b", "c"};
      AGAIN(tn_graph_parameter(graph[i], names[layer], TN_F32, dims, 2, data, sizeof data, 1, &in[1]));
      AGAIN(tn_graph_add(graph[i], "linear", NULL, 0, in, 2, &y, 1, NULL));
      AGAIN(tn_graph_add(graph[i], "gelu", NULL, 0, &y, 1, &in[0], 1, NULL));
    }
    AGAIN(tn_graph_constant(graph[i], TN_F32, dims, 2, data, sizeof data, &in[1]));
    AGAIN(tn_graph_add(graph[i], "mul", NULL, 0, in, 2, &in[0], 1, NULL));
    AGAIN(tn_graph_output(graph[i], "y", in[0]));
    AGAIN(tn_graph_input(graph[i], "targets", TN_I32, rows, 1, &in[1]));
    AGAIN(tn_graph_add(graph[i], "cross_entropy", NULL, 0, in, 2, &y, 1, NULL));
    AGAIN(tn_session_create(graph[i], y, &options, &session[i]));
    tn_graph_destroy(graph[i]);
    AGAIN(tn_session_write(session[i], "x", data, sizeof data));
    AGAIN(tn_session_write(session[i], "targets", targets, sizeof targets));
  }
  step(l, session[0]);
  AGAIN(tn_session_evaluate(session[0], NULL, &loss));
  keep(l, &loss, sizeof loss);
  /* Between micro-steps, to the least that can be met. */
  plan.struct_size = sizeof plan;
  AGAIN(tn_session_plan(session[0], &plan));
  AGAIN(tn_session_set_memory_budget(session[0], plan.planned_peak_bytes));
  step(l, session[0]);
  AGAIN(tn_session_evaluate(session[0], NULL, &loss));
  AGAIN(tn_session_save(session[0], path("failures.tenon"), "note"));
  AGAIN(tn_session_load(session[1], path("failures.tenon"), NULL));
  AGAIN(tn_session_dlpack(session[0], "a", 1, &shared));
  for (int i = 0; i < 2; i++) {
    step(l, session[i]);
    step(l, session[i]);
    AGAIN(tn_session_renew_control(session[i]));
    AGAIN(tn_session_outer_step(session[i]));
    AGAIN(tn_session_begin_round(session[i]));
    exchange(l, session[i]);
    keep_trained(l, session[i]);
    tn_session_destroy(session[i]);
  }
  /* The tensor outlives its session. */
  EXPECT(memory.live > 0);
  {
    typedef void (*deleter)(void *);
    deleter give_back;
    memcpy(&give_back, (char *)shared + 16, sizeof give_back);
    give_back(shared);
  }
}

static void model_life(life *l, const char *where, tn_trains trains, int is_empty) {
  tn_model_options how;
  tn_train_options options;
  tn_model *model;
  tn_session *session;
  int32_t tokens[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  float loss;
  memset(&how, 0, sizeof how);
  how.struct_size = sizeof how;
  how.seq = 8;
  how.trains = trains;
  how.lora_rank = 2;
  how.seed = 3;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  if (is_empty) {
    AGAIN(tn_model_empty(cx, where, &model));
  } else {
    AGAIN(tn_model_load(cx, where, &model));
  }
  AGAIN(tn_session_from_model(model, &how, &options, &session));
  tn_model_destroy(model);
  AGAIN(tn_session_write(session, "tokens", tokens, sizeof tokens));
  AGAIN(tn_session_write(session, "targets", tokens, sizeof tokens));
  step(l, session);
  AGAIN(tn_session_evaluate(session, NULL, &loss));
  keep(l, &loss, sizeof loss);
  exchange(l, session);
  keep_trained(l, session);
  tn_session_destroy(session);
}

static void live(int which, life *l) {
  l->size = 0;
  open_context();
  switch (which) {
    case 0: graph_life(l); break;
    case 1: model_life(l, folder, TN_TRAIN_EVERYTHING, 0); break;
    case 2: model_life(l, gguf, TN_TRAIN_LORA, 0); break;
    default: model_life(l, gguf, TN_TRAIN_LORA, 1); break;
  }
  tn_context_destroy(cx);
  EXPECT(memory.live == 0 && memory.bytes == 0);
}

int main(int count, char **arguments) {
  static life plain, other;
  const char *names[] = {"graph", "safetensors", "GGUF", "empty"};
  if (count < 4) return 1;
  scratch = arguments[1];
  folder = arguments[2];
  gguf = arguments[3];
  for (int which = 0; which < 4; which++) {
    memset(&memory, 0, sizeof memory);
    live(which, &plain);
    EXPECT(plain.size > 100);
    refusals = 0;
    for (long n = 1, all = memory.asked; n <= all; n++) {
      memset(&memory, 0, sizeof memory);
      memory.refuse = n;
      live(which, &other);
      EXPECT(refusals == n);
      EXPECT(other.size == plain.size && memcmp(other.bytes, plain.bytes, plain.size) == 0);
    }
    printf("%s: %ld requests, each refused once\n", names[which], refusals);
  }
  printf("%u checks, %u failures\n", checks, failures);
  return failures != 0;
}
