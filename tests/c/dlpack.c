/*
 * Memory shared by DLPack, both ways: the same bytes at the same address, kept as long as any side
 * needs them; and structs that no one should have made, each of which is refused and not taken.
 */
#include "check.h"
#include "dlpack.h"

enum { CPU = 1, READ_ONLY = 1, SIDE = 8 };

static float data[256];
static network good, twin;
static int deleted;

static void count(DLManagedTensorVersioned *managed) {
  (void)managed;
  deleted++;
}

static void count_old(DLManagedTensor *managed) {
  (void)managed;
  deleted++;
}

/* A weight of the caller's own, SIDE x SIDE. */
static float memory[2 + SIDE * SIDE];
static float *const own = memory + 2;
static int64_t shape[9], strides[9];

static DLManagedTensorVersioned lend(void) {
  DLManagedTensorVersioned m;
  memset(&m, 0, sizeof m);
  for (int i = 0; i < 9; i++) shape[i] = 1;
  shape[0] = shape[1] = SIDE;
  strides[0] = SIDE;
  strides[1] = 1;
  m.major = 1;
  m.deleter = count;
  m.tensor.data = own;
  m.tensor.device_type = CPU;
  m.tensor.ndim = 2;
  m.tensor.code = 2;
  m.tensor.bits = 32;
  m.tensor.lanes = 1;
  m.tensor.shape = shape;
  m.tensor.strides = strides;
  return m;
}

/* w * w's sum: its gradient is 2 w, so that a step of SGD scales w. */
static tn_session *make_session(tn_graph *g, tn_value w) {
  tn_train_options options;
  tn_session *session;
  tn_value loss;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.optimizer = TN_SGD;
  options.lr = 0.25f;
  MUST(tn_graph_add(g, "square", NULL, 0, &w, 1, &loss, 1, NULL));
  MUST(tn_graph_add(g, "reduce_sum", NULL, 0, &loss, 1, &loss, 1, NULL));
  MUST(tn_session_create(g, loss, &options, &session));
  return session;
}

/* Another library's memory trains in place, and is given back once nothing uses it. */
static void taken(int old) {
  DLManagedTensorVersioned m = lend();
  DLManagedTensor before_one;
  tn_graph *g;
  tn_session *session;
  tn_value w;
  before_one.tensor = m.tensor;
  before_one.manager = NULL;
  before_one.deleter = count_old;
  for (int i = 0; i < SIDE * SIDE; i++) own[i] = (float)i;
  deleted = 0;
  MUST(tn_graph_create(cx, &g));
  if (old) {
    MUST(tn_graph_parameter_dlpack(g, "w", 0, &before_one, 1, &w));
  } else {
    m.tensor.strides = NULL;
    m.tensor.data = memory;
    m.tensor.byte_offset = 2 * sizeof *own;
    MUST(tn_graph_parameter_dlpack(g, "w", 1, &m, 1, &w));
  }
  session = make_session(g, w);
  tn_graph_destroy(g);
  for (int step = 1; step <= 2; step++) {
    MUST(tn_session_step(session, NULL, NULL));
    for (int i = 0; i < SIDE * SIDE; i++) EXPECT(own[i] == (float)i * (step == 1 ? 0.5f : 0.25f));
  }
  own[3] = 64.0f;
  MUST(tn_session_step(session, NULL, NULL));
  EXPECT(own[3] == 32.0f && deleted == 0);
  tn_session_destroy(session);
  EXPECT(deleted == 1);
}

/* What the session has, seen and written from outside, and for longer than the session. */
static void given(uint32_t major) {
  network n = make_network(data, NULL);
  void *shared;
  DLTensor *t;
  float was[WIDTH * WIDTH], loss[2];
  const int32_t batch[ROWS] = {0, 1, 2, 0};
  MUST(tn_session_dlpack(n.session, "w", major, &shared));
  t = major == 0 ? &((DLManagedTensor *)shared)->tensor : &((DLManagedTensorVersioned *)shared)->tensor;
  EXPECT(t->ndim == 2 && t->shape[0] == WIDTH && t->shape[1] == WIDTH && t->strides[0] == WIDTH);
  EXPECT(t->code == 2 && t->bits == 32 && t->lanes == 1 && t->strides[1] == 1);
  EXPECT(memcmp((char *)t->data + t->byte_offset, data + 80, WIDTH * WIDTH * sizeof *data) == 0);
  MUST(tn_session_write(n.session, "words", batch, sizeof batch));
  MUST(tn_session_write(n.session, "targets", batch, sizeof batch));
  MUST(tn_session_evaluate(n.session, NULL, &loss[0]));
  ((float *)t->data)[5] += 1.0f;
  MUST(tn_session_evaluate(n.session, NULL, &loss[1]));
  EXPECT(loss[0] != loss[1]);
  /* Planned anew, it lies where it lay. */
  for (int step = 0; step < 2; step++) {
    memcpy(was, t->data, sizeof was);
    MUST(tn_session_step(n.session, NULL, NULL));
    EXPECT(memcmp(was, t->data, sizeof was) != 0);
    MUST(tn_session_read(n.session, "w", was, sizeof was));
    EXPECT(memcmp(was, t->data, sizeof was) == 0);
    MUST(tn_session_set_memory_budget(n.session, 0));
  }
  free_network(n);
  ((float *)t->data)[5] = 1.0f;
  if (major == 0) ((DLManagedTensor *)shared)->deleter((DLManagedTensor *)shared);
  if (major == 1) ((DLManagedTensorVersioned *)shared)->deleter((DLManagedTensorVersioned *)shared);
}

/* An attempt that must fail and leave the struct with its owner. */
static void refused_struct(tn_status want, DLManagedTensorVersioned m, int trainable, int line) {
  prepare();
  deleted = 0;
  refused(want, tn_graph_parameter_dlpack(good.graph, "new", 1, &m, trainable, &out.value), "a struct", line);
  expect(deleted == 0, "a struct that is refused is not taken", line);
}

#define REFUSED_STRUCT(want, m, trainable) refused_struct(want, m, trainable, __LINE__)

/* `m` but for one thing. */
#define REFUSED_WITH(want, change)    \
  do {                                \
    DLManagedTensorVersioned m = lend(); \
    change;                           \
    REFUSED_STRUCT(want, m, 1);       \
  } while (0)

static void structs(void) {
  const tn_status argument = TN_ERROR_ARGUMENT;
  DLManagedTensorVersioned m = lend();
  REFUSED_BARE(tn_graph_parameter_dlpack(NULL, "new", 1, &m, 1, &out.value));
  REFUSED(argument, tn_graph_parameter_dlpack(good.graph, "new", 1, NULL, 1, &out.value));
  REFUSED(argument, tn_graph_parameter_dlpack(good.graph, "new", 0, NULL, 1, &out.value));
  REFUSED(argument, tn_graph_parameter_dlpack(good.graph, "new", 1, &m, 1, NULL));
  REFUSED(argument, tn_graph_parameter_dlpack(good.graph, "new", 2, &m, 1, &out.value));
  REFUSED(argument, tn_graph_parameter_dlpack(good.graph, NULL, 1, &m, 1, &out.value));
  REFUSED(argument, tn_graph_parameter_dlpack(good.graph, BROKEN, 1, &m, 1, &out.value));
  REFUSED(TN_ERROR_GRAPH, tn_graph_parameter_dlpack(good.graph, "w", 1, &m, 1, &out.value));
  REFUSED_WITH(argument, m.major = 2);
  REFUSED_WITH(argument, m.major = 0);
  REFUSED_WITH(argument, m.tensor.device_type = 2);
  REFUSED_WITH(argument, m.tensor.code = 5);
  REFUSED_WITH(argument, m.tensor.bits = 64);
  REFUSED_WITH(argument, m.tensor.lanes = 4);
  REFUSED_WITH(argument, m.tensor.ndim = -1);
  REFUSED_WITH(argument, m.tensor.ndim = 9);
  REFUSED_WITH(argument, m.tensor.shape = NULL);
  REFUSED_WITH(argument, shape[1] = -1);
  REFUSED_WITH(argument, shape[0] = INT64_MIN);
  REFUSED_WITH(TN_ERROR_SHAPE, shape[0] = INT64_MAX);
  REFUSED_WITH(argument, strides[0] = SIDE + 1);
  REFUSED_WITH(argument, strides[1] = 2);
  REFUSED_WITH(argument, strides[1] = 0);
  REFUSED_WITH(argument, m.tensor.data = NULL);
  REFUSED_WITH(argument, m.tensor.byte_offset = 2);
  REFUSED_WITH(argument, m.flags = READ_ONLY);
  REFUSED_WITH(TN_ERROR_GRAPH, m.tensor.code = 0);
  EXPECT(deleted == 0);
}

static void names(void) {
  const char *bad[] = {NULL, BROKEN, "", "nonsense", "grad/w"};
  tn_session *s = good.session;
  REFUSED_BARE(tn_session_dlpack(NULL, "w", 1, &out.tensor));
  REFUSED(TN_ERROR_ARGUMENT, tn_session_dlpack(s, "w", 1, NULL));
  REFUSED(TN_ERROR_ARGUMENT, tn_session_dlpack(s, "w", 2, &out.tensor));
  REFUSED(TN_ERROR_ARGUMENT, tn_session_dlpack(s, "w", UINT32_MAX, &out.tensor));
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    const tn_status want = i < 2 ? TN_ERROR_ARGUMENT : TN_ERROR_NOT_FOUND;
    REFUSED(want, tn_session_dlpack(s, bad[i], 1, &out.tensor));
  }
}

int main(void) {
  for (size_t i = 0; i < sizeof data / sizeof *data; i++) data[i] = noise();
  begin();
  good = make_network(data, NULL);
  twin = make_network(data, NULL);
  structs();
  names();
  same_twins(good, twin, __LINE__);
  taken(0);
  taken(1);
  given(0);
  given(1);
  free_network(good);
  free_network(twin);
  return end();
}
