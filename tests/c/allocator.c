/*
 * A caller's allocator that fails at the n-th request, for every n: making, planning and running
 * must then either succeed or say that there is no memory, and in the end all is given back. A log
 * must be told something, and the working network must compute what it does without an allocator.
 */
#include "check.h"
#include "heap.h"

typedef struct heap {
  long left; /* requests until one fails; below 0: none does */
  long live; /* allocations not yet given back */
  size_t bytes;
  unsigned logged;
} heap;

static void *allocate(void *user, size_t size, size_t alignment) {
  heap *h = (heap *)user;
  EXPECT(size > 0 && alignment > 0 && (alignment & (alignment - 1)) == 0);
  if (h->left == 0) return NULL;
  h->left--;
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

static void log_to(void *user, const char *message) {
  ((heap *)user)->logged += *message != '\0';
}

/* One life of a network. Gives the first failure, and the loss in the end. */
static tn_status live(heap *h, float *loss) {
  const int64_t dims[2] = {4, 4}, rows[1] = {4};
  const float data[16] = {1, 2, 3, 4, -1, -2, 5, 6, -7, 0, 1, 2};
  const int32_t targets[4] = {0, 1, 2, 3};
  tn_allocator allocator;
  tn_context_options options;
  tn_context *context;
  tn_graph *graph = NULL;
  tn_session *session = NULL;
  tn_value in[2], y = 0;
  tn_status status;
  memset(&allocator, 0, sizeof allocator);
  allocator.struct_size = sizeof allocator;
  allocator.user = h;
  allocator.allocate = allocate;
  allocator.release = release;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.threads = 1;
  options.allocator = h == NULL ? NULL : &allocator;
  options.log = h == NULL ? NULL : log_to;
  options.log_user = h;
  status = tn_context_create(&options, &context);
  if (status != TN_OK) return status;
#define TRY(call) if (status == TN_OK) status = (call)
  TRY(tn_graph_create(context, &graph));
  TRY(tn_graph_input(graph, "x", TN_F32, dims, 2, &in[0]));
  TRY(tn_graph_parameter(graph, "w", TN_F32, dims, 2, data, sizeof data, 1, &in[1]));
  TRY(tn_graph_add(graph, "linear", NULL, 0, in, 2, &y, 1, NULL));
  TRY(tn_graph_constant(graph, TN_F32, dims, 2, data, sizeof data, &in[1]));
  in[0] = y;
  TRY(tn_graph_add(graph, "mul", NULL, 0, in, 2, &in[0], 1, NULL));
  TRY(tn_graph_input(graph, "targets", TN_I32, rows, 1, &in[1]));
  TRY(tn_graph_add(graph, "cross_entropy", NULL, 0, in, 2, &y, 1, NULL));
  TRY(tn_session_create(graph, y, NULL, &session));
  tn_graph_destroy(graph);
  TRY(tn_session_write(session, "x", data, sizeof data));
  TRY(tn_session_write(session, "targets", targets, sizeof targets));
  TRY(tn_session_step(session, NULL, NULL));
  TRY(tn_session_evaluate(session, NULL, loss));
  if (status != TN_OK) EXPECT(tn_error_message(context, NULL, 0) > 1);
  /* The session keeps what it needs of the context. */
  tn_context_destroy(context);
  TRY(tn_session_evaluate(session, NULL, loss));
  tn_session_destroy(session);
  return status;
}

int main(void) {
  float loss, plain;
  begin();
  EXPECT(live(NULL, &plain) == TN_OK);
  for (long n = 0;; n++) {
    heap h = {0, 0, 0, 0};
    tn_status status;
    h.left = n;
    status = live(&h, &loss);
    EXPECT(h.live == 0 && h.bytes == 0);
    EXPECT(h.logged > 0);
    if (status == TN_OK) {
      /* The parameter, the constant, the arena, and what starts as zeros. */
      EXPECT(n >= 4);
      EXPECT(memcmp(&loss, &plain, sizeof loss) == 0);
      printf("%ld allocations, each failed once\n", n);
      break;
    }
    EXPECT(status == TN_ERROR_MEMORY);
    if (n > 1000) return 1;
  }
  return end();
}
