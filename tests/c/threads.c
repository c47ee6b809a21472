/*
 * Two contexts and eight threads, four on each; ThreadSanitizer watches:
 *
 *   threads MODEL
 *
 * Each thread has sessions of its own, trains, evaluates and reads; sessions of one model train side
 * by side; one session goes from thread to thread; the main thread cancels steps of others; calls
 * fail and their messages are read; vectors are compressed, masked and summed on the shared contexts;
 * tensors are given back by another thread than took them; and the contexts go while sessions go on.
 * All that is computed has the same bits in every thread.
 */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include "dlpack.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tenon.h>

enum { CONTEXTS = 2, THREADS = 8, WORKERS = 3, ROUNDS = 3, STEPS = 4 };
enum { ROWS = 64, WIDTH = 96, CLASSES = 8, COUNT = 20000, SEQ = 16 };

/* What the threads of one context share. */
typedef struct shared {
  tn_context *context;
  tn_model *model;      /* one thread at a time, as the next */
  tn_session *common;
  pthread_mutex_t turn; /* held by the thread that uses one of the two */
  long live;            /* allocations not given back */
  long logged;
} shared;

/* A thread, and what it leaves for others to compare and to give back. */
typedef struct worker {
  shared *with;
  pthread_t thread;
  int waits, cancel; /* in a step that is to be cancelled; that it is */
  float loss[ROUNDS * STEPS], model_loss[STEPS];
  float trained[CLASSES * WIDTH];
  float sum[COUNT];
  DLManagedTensorVersioned *tensor;
} worker;

static const char *path;
static shared both[CONTEXTS];
static worker workers[THREADS];
static pthread_barrier_t barrier;
static int finished;

static void fail(tn_context *context, const char *what, int line) {
  char why[512];
  tn_error_message(context, why, sizeof why);
  printf("line %d: %s: %s\n", line, what, why);
  exit(1);
}

#define MUST(cx, condition) \
  do {                      \
    if (!(condition)) fail(cx, #condition, __LINE__); \
  } while (0)

static void *allocate(void *user, size_t size, size_t alignment) {
  void *memory;
  if (posix_memalign(&memory, alignment < sizeof memory ? sizeof memory : alignment, size) != 0)
    return NULL;
  __atomic_add_fetch(&((shared *)user)->live, 1, __ATOMIC_RELAXED);
  return memory;
}

static void release(void *user, void *memory, size_t size) {
  (void)size;
  free(memory);
  __atomic_sub_fetch(&((shared *)user)->live, 1, __ATOMIC_RELAXED);
}

static void log_to(void *user, const char *message) {
  if (*message != '\0') __atomic_add_fetch(&((shared *)user)->logged, 1, __ATOMIC_RELAXED);
}

static float noise(uint32_t *state) {
  *state = *state * 1664525u + 1013904223u;
  return (float)(*state >> 8) / 8388608.0f - 1.0f;
}

/* linear -> relu -> linear -> cross_entropy, with a batch written; equal for equal contexts. */
static tn_session *make_session(tn_context *cx) {
  const int64_t x_dims[2] = {ROWS, WIDTH}, y_dims[1] = {ROWS};
  const int64_t a_dims[2] = {WIDTH, WIDTH}, b_dims[2] = {CLASSES, WIDTH};
  float x[ROWS * WIDTH], a[WIDTH * WIDTH], b[CLASSES * WIDTH];
  int32_t y[ROWS];
  uint32_t state = 7;
  tn_train_options how;
  tn_graph *graph;
  tn_session *session;
  tn_value in[2], targets, loss;
  for (int i = 0; i < ROWS * WIDTH; i++) x[i] = noise(&state);
  for (int i = 0; i < ROWS; i++) y[i] = i % CLASSES;
  for (int i = 0; i < WIDTH * WIDTH; i++) a[i] = 0.2f * noise(&state);
  for (int i = 0; i < CLASSES * WIDTH; i++) b[i] = 0.2f * noise(&state);
  memset(&how, 0, sizeof how);
  how.struct_size = sizeof how;
  how.clip_norm = 1.0f;
  MUST(cx, tn_graph_create(cx, &graph) == TN_OK);
  MUST(cx, tn_graph_input(graph, "x", TN_F32, x_dims, 2, &in[0]) == TN_OK);
  MUST(cx, tn_graph_parameter(graph, "a", TN_F32, a_dims, 2, a, sizeof a, 1, &in[1]) == TN_OK);
  MUST(cx, tn_graph_add(graph, "linear", NULL, 0, in, 2, &in[0], 1, NULL) == TN_OK);
  MUST(cx, tn_graph_add(graph, "relu", NULL, 0, in, 1, &in[0], 1, NULL) == TN_OK);
  MUST(cx, tn_graph_parameter(graph, "b", TN_F32, b_dims, 2, b, sizeof b, 1, &in[1]) == TN_OK);
  MUST(cx, tn_graph_add(graph, "linear", NULL, 0, in, 2, &in[0], 1, NULL) == TN_OK);
  MUST(cx, tn_graph_input(graph, "y", TN_I32, y_dims, 1, &targets) == TN_OK);
  in[1] = targets;
  MUST(cx, tn_graph_add(graph, "cross_entropy", NULL, 0, in, 2, &loss, 1, NULL) == TN_OK);
  MUST(cx, tn_session_create(graph, loss, &how, &session) == TN_OK);
  tn_graph_destroy(graph);
  MUST(cx, tn_session_write(session, "x", x, sizeof x) == TN_OK);
  MUST(cx, tn_session_write(session, "y", y, sizeof y) == TN_OK);
  return session;
}

static float step(tn_context *cx, tn_session *session) {
  tn_report report;
  report.struct_size = sizeof report;
  MUST(cx, tn_session_step(session, NULL, &report) == TN_OK);
  return report.loss;
}

/* Waits within a step until the main thread cancels it. */
static int32_t until_cancelled(void *user, uint64_t done, uint64_t total) {
  worker *me = (worker *)user;
  (void)done, (void)total;
  __atomic_store_n(&me->waits, 1, __ATOMIC_RELEASE);
  return __atomic_load_n(&me->cancel, __ATOMIC_ACQUIRE);
}

static void be_cancelled(worker *me, tn_session *session) {
  tn_run_options run;
  tn_status status;
  memset(&run, 0, sizeof run);
  run.struct_size = sizeof run;
  run.progress = until_cancelled;
  run.progress_user = me;
  do { /* a whole step may be over before the main thread's turn comes */
    status = tn_session_step(session, &run, NULL);
  } while (status == TN_OK);
  MUST(NULL, status == TN_ERROR_CANCELLED);
  __atomic_store_n(&me->waits, 0, __ATOMIC_RELEASE);
  __atomic_store_n(&me->cancel, 0, __ATOMIC_RELEASE);
}

/* A session of the model that all threads of the context have sessions of. */
static void train_model(worker *me) {
  tn_context *cx = me->with->context;
  int32_t tokens[SEQ];
  tn_model_options how;
  tn_session *session;
  memset(&how, 0, sizeof how);
  how.struct_size = sizeof how;
  how.seq = SEQ;
  how.lora_rank = 4;
  pthread_mutex_lock(&me->with->turn);
  MUST(cx, tn_session_from_model(me->with->model, &how, NULL, &session) == TN_OK);
  pthread_mutex_unlock(&me->with->turn);
  for (int i = 0; i < SEQ; i++) tokens[i] = i % 7;
  MUST(cx, tn_session_write(session, "tokens", tokens, sizeof tokens) == TN_OK);
  MUST(cx, tn_session_write(session, "targets", tokens, sizeof tokens) == TN_OK);
  for (int i = 0; i < STEPS; i++) me->model_loss[i] = step(cx, session);
  tn_session_destroy(session);
}

/* What clients and a server do to vectors, on a context that others use meanwhile. */
static void exchange(worker *me) {
  tn_context *cx = me->with->context;
  tn_compression how = {sizeof how, COUNT / 10, 4, 0, 3, 1};
  tn_fixed_point fixed = {sizeof fixed, 4.0f, 2};
  tn_mask mask = {sizeof mask, 11, 1, 0, 0};
  static const size_t bytes = COUNT * sizeof(float);
  float *update = (float *)malloc(3 * bytes), *residual = update + COUNT;
  uint32_t *words = (uint32_t *)(residual + COUNT);
  size_t capacity, size;
  void *message;
  uint32_t state = 5;
  if (update == NULL) exit(1);
  for (int i = 0; i < COUNT; i++) update[i] = noise(&state);
  memset(residual, 0, bytes);
  memset(me->sum, 0, bytes);
  MUST(cx, tn_update_bound(cx, &how, COUNT, &capacity) == TN_OK);
  message = malloc(capacity);
  if (message == NULL) exit(1);
  MUST(cx, tn_update_compress(cx, &how, update, residual, COUNT, message, capacity, &size) == TN_OK);
  MUST(cx, tn_update_add(cx, 0.5f, message, size, me->sum, COUNT) == TN_OK);
  MUST(cx, tn_secure_encode(cx, &fixed, 1.0f, update, words, COUNT) == TN_OK);
  MUST(cx, tn_secure_mask(cx, &mask, 1, words, COUNT) == TN_OK);
  mask.negative = 1;
  MUST(cx, tn_secure_mask(cx, &mask, 1, words, COUNT) == TN_OK);
  MUST(cx, tn_secure_decode(cx, &fixed, 1.0f, words, residual, COUNT) == TN_OK);
  MUST(cx, tn_update_accumulate(cx, 2.0f, residual, me->sum, COUNT) == TN_OK);
  MUST(cx, tn_update_inspect(cx, message, size / 2, NULL) == TN_ERROR_ARGUMENT);
  free(message);
  free(update);
}

/* Gives back what the next thread took, once both are at the barrier. */
static void give_back(worker *me) {
  DLManagedTensorVersioned *theirs = workers[(me - workers + 1) % THREADS].tensor;
  const float *data = (const float *)((const char *)theirs->tensor.data + theirs->tensor.byte_offset);
  MUST(NULL, memcmp(data, me->trained, sizeof me->trained) == 0);
  theirs->deleter(theirs);
}

static void *work(void *argument) {
  worker *me = (worker *)argument;
  shared *with = me->with;
  tn_context *cx = with->context;
  tn_session *session = make_session(cx);
  char why[64];
  float loss;
  void *tensor;
  for (int round = 0; round < ROUNDS; round++) {
    for (int i = 0; i < STEPS; i++) me->loss[round * STEPS + i] = step(cx, session);
    MUST(cx, tn_session_evaluate(session, NULL, &loss) == TN_OK);
    exchange(me);
    MUST(cx, tn_session_read(session, "none", &loss, sizeof loss) == TN_ERROR_NOT_FOUND);
    MUST(cx, tn_error_message(cx, why, sizeof why) > 1);
    pthread_mutex_lock(&with->turn);
    if (with->common == NULL) with->common = make_session(cx);
    step(cx, with->common);
    MUST(cx, tn_session_read(with->common, "b", me->trained, sizeof me->trained) == TN_OK);
    pthread_mutex_unlock(&with->turn);
    train_model(me);
  }
  MUST(cx, tn_session_read(session, "b", me->trained, sizeof me->trained) == TN_OK);
  MUST(cx, tn_session_dlpack(session, "b", 1, &tensor) == TN_OK);
  me->tensor = (DLManagedTensorVersioned *)tensor;
  tn_session_destroy(session);
  session = make_session(cx);
  pthread_barrier_wait(&barrier);
  /* From here on the main thread destroys what is shared. */
  give_back(me);
  be_cancelled(me, session);
  for (int i = 0; i < STEPS; i++)
    if (tn_session_step(session, NULL, NULL) != TN_OK) exit(1);
  tn_session_destroy(session);
  __atomic_add_fetch(&finished, 1, __ATOMIC_RELEASE);
  return NULL;
}

static void begin(shared *with) {
  tn_allocator allocator;
  tn_context_options options;
  memset(&allocator, 0, sizeof allocator);
  allocator.struct_size = sizeof allocator;
  allocator.user = with;
  allocator.allocate = allocate;
  allocator.release = release;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.threads = WORKERS;
  options.allocator = &allocator;
  options.log = log_to;
  options.log_user = with;
  MUST(NULL, tn_context_create(&options, &with->context) == TN_OK);
  MUST(with->context, tn_model_load(with->context, path, &with->model) == TN_OK);
  MUST(NULL, pthread_mutex_init(&with->turn, NULL) == 0);
}

int main(int argc, char **argv) {
  int same = 1;
  if (argc < 2) {
    fprintf(stderr, "usage: %s MODEL\n", argv[0]);
    return 2;
  }
  path = argv[1];
  for (int i = 0; i < CONTEXTS; i++) begin(&both[i]);
  pthread_barrier_init(&barrier, NULL, THREADS + 1);
  for (int i = 0; i < THREADS; i++) {
    workers[i].with = &both[i % CONTEXTS];
    if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) return 1;
  }
  pthread_barrier_wait(&barrier);
  for (int i = 0; i < CONTEXTS; i++) {
    tn_context_destroy(both[i].context);
    tn_model_destroy(both[i].model);
    tn_session_destroy(both[i].common);
  }
  while (__atomic_load_n(&finished, __ATOMIC_ACQUIRE) < THREADS)
    for (int i = 0; i < THREADS; i++)
      if (__atomic_load_n(&workers[i].waits, __ATOMIC_ACQUIRE))
        __atomic_store_n(&workers[i].cancel, 1, __ATOMIC_RELEASE);
  for (int i = 0; i < THREADS; i++) pthread_join(workers[i].thread, NULL);
  for (int i = 1; i < THREADS; i++) {
    same &= memcmp(workers[i].loss, workers[0].loss, sizeof workers[0].loss) == 0;
    same &= memcmp(workers[i].model_loss, workers[0].model_loss, sizeof workers[0].model_loss) == 0;
    same &= memcmp(workers[i].trained, workers[0].trained, sizeof workers[0].trained) == 0;
    same &= memcmp(workers[i].sum, workers[0].sum, sizeof workers[0].sum) == 0;
  }
  for (int i = 0; i < CONTEXTS; i++) {
    if (both[i].live != 0 || both[i].logged == 0) return 1;
    pthread_mutex_destroy(&both[i].turn);
  }
  pthread_barrier_destroy(&barrier);
  printf("loss %.4f, then %.4f; %s in %d threads\n", workers[0].loss[0],
         workers[0].loss[ROUNDS * STEPS - 1], same ? "the same" : "NOT THE SAME", THREADS);
  return !same;
}
