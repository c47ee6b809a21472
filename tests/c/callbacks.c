/*
 * Callbacks that call back: a handle that a call is in is refused, others serve, and any may be
 * destroyed; what is destroyed in a call goes when that returns, and with it all of the caller's
 * memory. Vectors that share memory are refused, too.
 */
#include "check.h"

static tn_session *session, *other;
static tn_graph *graph;
static tn_context *own;
static int calls, wanted;
static size_t live;

static void *allocate(void *user, size_t size, size_t alignment) {
  char *start = (char *)malloc(size + alignment + sizeof start), *memory;
  tn_report report;
  (void)user;
  if (start == NULL) exit(1);
  memory = start + sizeof start;
  memory += (alignment - (uintptr_t)memory % alignment) % alignment;
  memcpy(memory - sizeof start, &start, sizeof start);
  live += size;
  /* Whatever the call that asks for memory is: nothing of it can be used from here. */
  memset(&report, 0, sizeof report);
  report.struct_size = sizeof report;
  if (wanted == 1) EXPECT(tn_graph_output(graph, "y", 0) == TN_ERROR_ARGUMENT);
  if (wanted == 2) EXPECT(tn_session_step(session, NULL, &report) == TN_ERROR_ARGUMENT);
  if (wanted != 0) EXPECT(report.step == 0 && tn_error_message(own, NULL, 0) > 1);
  calls++;
  return memory;
}

static void release(void *user, void *memory, size_t size) {
  char *start;
  (void)user;
  memcpy(&start, (char *)memory - sizeof start, sizeof start);
  memset(memory, 0xdd, size);
  free(start);
  live -= size;
}

/* Tries everything that a step's progress may ask of handles, by number. */
static int32_t progress(void *user, uint64_t done, uint64_t total) {
  float x[6] = {1, 2, 3, 4, 5, 6}, sum[2] = {0, 0};
  int64_t dims[TN_MAX_RANK];
  size_t size;
  (void)total;
  calls++;
  if (done != 0) return 0;
  switch (*(int *)user) {
    case 0:
      EXPECT(tn_session_read(session, "x", x, sizeof x) == TN_ERROR_ARGUMENT && x[0] == 1);
      EXPECT(tn_session_write(session, "x", x, sizeof x) == TN_ERROR_ARGUMENT);
      EXPECT(tn_session_step(session, NULL, NULL) == TN_ERROR_ARGUMENT);
      EXPECT(tn_session_set_memory_budget(session, 0) == TN_ERROR_ARGUMENT);
      EXPECT(tn_session_load(session, "nowhere", NULL) == TN_ERROR_ARGUMENT);
      EXPECT(tn_session_trainable_size(session, &size) == TN_ERROR_ARGUMENT);
      EXPECT(tn_error_message(own, NULL, 0) > 1);
      break;
    case 1:
      EXPECT(tn_update_accumulate(own, 2, x, sum, 2) == TN_OK && sum[1] == 4);
      EXPECT(tn_session_step(other, NULL, NULL) == TN_OK);
      EXPECT(tn_graph_shape(graph, 0, dims, &size) == TN_OK && size == 2 && dims[1] == 3);
      break;
    case 2:
      tn_session_destroy(session);
      EXPECT(tn_session_step(other, NULL, NULL) == TN_OK);
      break;
    default:
      tn_session_destroy(session);
      tn_context_destroy(own);
      tn_graph_destroy(graph);
      tn_session_destroy(other);
      return 1;
  }
  return 0;
}

static void make(void) {
  const int64_t dims[2] = {2, 3}, rows[1] = {2};
  const float data[6] = {1, 2, 3, -1, -2, -3};
  const int32_t targets[2] = {0, 1};
  tn_allocator allocator;
  tn_context_options options;
  tn_value in[2], y, loss;
  memset(&allocator, 0, sizeof allocator);
  allocator.struct_size = sizeof allocator;
  allocator.allocate = allocate;
  allocator.release = release;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.threads = 2;
  options.allocator = &allocator;
  MUST(tn_context_create(&options, &own));
  MUST(tn_graph_create(own, &graph));
  MUST(tn_graph_input(graph, "x", TN_F32, dims, 2, &in[0]));
  wanted = 1;
  MUST(tn_graph_parameter(graph, "w", TN_F32, dims, 2, data, sizeof data, 1, &in[1]));
  MUST(tn_graph_add(graph, "linear", NULL, 0, in, 2, &y, 1, NULL));
  in[0] = y;
  MUST(tn_graph_input(graph, "targets", TN_I32, rows, 1, &in[1]));
  MUST(tn_graph_add(graph, "cross_entropy", NULL, 0, in, 2, &loss, 1, NULL));
  MUST(tn_session_create(graph, loss, NULL, &session));
  wanted = 0;
  MUST(tn_session_create(graph, loss, NULL, &other));
  MUST(tn_session_write(session, "x", data, sizeof data));
  MUST(tn_session_write(session, "targets", targets, sizeof targets));
  MUST(tn_session_write(other, "x", data, sizeof data));
  MUST(tn_session_write(other, "targets", targets, sizeof targets));
}

static void callbacks(void) {
  tn_run_options run;
  int which;
  memset(&run, 0, sizeof run);
  run.struct_size = sizeof run;
  run.progress = progress;
  run.progress_user = &which;
  make();
  EXPECT(calls >= 4);
  for (which = 0; which < 2; which++) {
    calls = 0;
    MUST(tn_session_step(session, &run, NULL));
    EXPECT(calls > 2);
  }
  /* Memory is asked for by a session that another plan is made for. */
  wanted = 2;
  calls = 0;
  MUST(tn_session_set_memory_budget(session, 0));
  EXPECT(calls > 0);
  wanted = 0;
  which = 2;
  MUST(tn_session_step(session, &run, NULL)); /* and it is gone */
  tn_session_destroy(other);
  tn_graph_destroy(graph);
  EXPECT(live == 0);
  tn_context_destroy(own);
  make();
  which = 3;
  EXPECT(tn_session_step(session, &run, NULL) == TN_ERROR_CANCELLED);
  EXPECT(live == 0);
}

static void shared_memory(void) {
  float x[8] = {0};
  uint32_t words[8] = {0};
  size_t size;
  tn_fixed_point fixed = {sizeof fixed, 1.0f, 2};
  REFUSED(TN_ERROR_ARGUMENT, tn_update_accumulate(cx, 1, x, x, 8));
  REFUSED(TN_ERROR_ARGUMENT, tn_update_accumulate(cx, 1, x, x + 3, 4));
  REFUSED(TN_ERROR_ARGUMENT, tn_update_accumulate(cx, 1, x + 3, x, 4));
  REFUSED(TN_ERROR_ARGUMENT, tn_update_average(cx, x, x, 8));
  REFUSED(TN_ERROR_ARGUMENT, tn_update_compress(cx, NULL, x, x, 8, out.bytes, 1024, &out.size));
  REFUSED(TN_ERROR_ARGUMENT, tn_update_compress(cx, NULL, x, NULL, 8, x, 1 << 20, &out.size));
  REFUSED(TN_ERROR_ARGUMENT, tn_update_add(cx, 1, x, 32, x, 8));
  REFUSED(TN_ERROR_ARGUMENT, tn_secure_encode(cx, &fixed, 1, (float *)words, words, 8));
  REFUSED(TN_ERROR_ARGUMENT, tn_secure_add(cx, words, words + 1, 7));
  REFUSED(TN_ERROR_ARGUMENT, tn_secure_decode(cx, &fixed, 1, words, (float *)words, 8));
  /* Neighbours share nothing. */
  MUST(tn_update_accumulate(cx, 1, x, x + 4, 4));
  MUST(tn_secure_add(cx, words, words + 4, 4));
  MUST(tn_update_bound(cx, NULL, 8, &size));
}

int main(void) {
  begin();
  callbacks();
  shared_memory();
  return end();
}
