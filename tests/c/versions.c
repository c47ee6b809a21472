/*
 * Callers of other versions of the header: each struct as an older one knows it, shorter, and as a
 * newer one will, longer. What an older caller has behind its struct is not read and not written;
 * what a newer one sets there is refused unless it is zero, and left alone in a report.
 */
#include "check.h"

#include <stddef.h>

static float data[256];
static network n;

enum { TAIL = 24 };

/* A struct with room behind it. */
#define LONGER(type)    \
  struct {              \
    type known;         \
    unsigned char tail[TAIL]; \
  }

/* The first version of a struct ended with its last field of then. */
#define FIRST(type, last) (offsetof(type, last) + sizeof(((type *)0)->last))

static void set_tail(unsigned char *tail, int byte) { memset(tail, byte, TAIL); }

static int tail_is(const unsigned char *tail, int byte) {
  for (int i = 0; i < TAIL; i++)
    if (tail[i] != byte) return 0;
  return 1;
}

/* Options of a call: `set` is a field of a later version that the older caller cannot have meant. */
#define CHECK_OPTIONS(type, last, call, undo)                                         \
  do {                                                                               \
    LONGER(type) given;                                                              \
    memset(&given, 0, sizeof given);                                                 \
    memset((char *)&given + FIRST(type, last), 0x5a, sizeof given - FIRST(type, last)); \
    given.known.struct_size = FIRST(type, last);                                     \
    MUST(call(&given.known)), undo;                                                  \
    memset(&given, 0, sizeof given);                                                 \
    given.known.struct_size = sizeof given;                                          \
    MUST(call(&given.known)), undo;                                                  \
    for (size_t i = sizeof given.known; i < sizeof given; i++) {                     \
      ((char *)&given)[i] = 1;                                                       \
      CHECK_REFUSED(call(&given.known));                                             \
      ((char *)&given)[i] = 0;                                                       \
    }                                                                                \
  } while (0)

#define CHECK_REFUSED(call) expect((call) == TN_ERROR_ARGUMENT, #call, __LINE__)

/* A report: all of it for who knows all, no more than the first version's for who knows that. */
#define CHECK_REPORT(type, last, call)                                           \
  do {                                                                          \
    LONGER(type) place;                                                         \
    memset(&place, 0x5a, sizeof place);                                         \
    place.known.struct_size = FIRST(type, last);                                \
    MUST(call(&place.known));                                                   \
    for (size_t i = FIRST(type, last); i < sizeof place; i++)                   \
      EXPECT(((unsigned char *)&place)[i] == 0x5a);                             \
    EXPECT(place.known.struct_size == FIRST(type, last));                       \
    place.known.struct_size = sizeof place;                                     \
    set_tail(place.tail, 0x33);                                                 \
    MUST(call(&place.known));                                                   \
    EXPECT(place.known.struct_size == sizeof place && tail_is(place.tail, 0x33)); \
  } while (0)

static tn_context *made;
static tn_session *session;
static tn_value value;

static tn_status with_context(const tn_context_options *o) { return tn_context_create(o, &made); }
static tn_status with_training(const tn_train_options *o) {
  return tn_session_create(n.graph, n.loss, o, &session);
}
static tn_status with_run(const tn_run_options *o) { return tn_session_step(n.session, o, NULL); }
static tn_status with_attr(tn_attr *a) {
  a->name = "axes";
  a->kind = TN_ATTR_INTS;
  return tn_graph_add(n.graph, "reduce_sum", a, 1, &n.hidden, 1, &value, 1, NULL);
}
static tn_status plan(tn_plan *p) { return tn_session_plan(n.session, p); }
static tn_status step(tn_report *r) { return tn_session_step(n.session, NULL, r); }
static tn_status parameter(tn_parameter *p) { return tn_session_parameter(n.session, 0, p); }

static void *take(void *user, size_t size, size_t alignment) {
  (void)user, (void)alignment;
  return malloc(size); /* nothing here asks for any */
}
static void give(void *user, void *memory, size_t size) {
  (void)user, (void)size;
  free(memory);
}
static tn_status with_allocator(tn_allocator *a) {
  tn_context_options options;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.threads = 1;
  options.allocator = a;
  a->allocate = take;
  a->release = give;
  return tn_context_create(&options, &made);
}

int main(void) {
  const int32_t batch[ROWS] = {0, 1, 2, 0};
  for (size_t i = 0; i < sizeof data / sizeof *data; i++) data[i] = noise();
  begin();
  n = make_network(data, NULL);
  MUST(tn_session_write(n.session, "words", batch, sizeof batch));
  MUST(tn_session_write(n.session, "targets", batch, sizeof batch));
  CHECK_OPTIONS(tn_context_options, log_user, with_context, tn_context_destroy(made));
  CHECK_OPTIONS(tn_allocator, release, with_allocator, tn_context_destroy(made));
  CHECK_OPTIONS(tn_train_options, memory_budget, with_training, tn_session_destroy(session));
  CHECK_OPTIONS(tn_run_options, progress_user, with_run, (void)0);
  CHECK_OPTIONS(tn_attr, integer_count, with_attr, (void)0);
  CHECK_REPORT(tn_plan, plan_ms, plan);
  CHECK_REPORT(tn_report, step, step);
  CHECK_REPORT(tn_parameter, dims, parameter);
  free_network(n);
  return end();
}
