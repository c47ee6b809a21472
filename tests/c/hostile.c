/*
 * Bad input of every kind to contexts, graphs and sessions. Each call must be refused with the
 * right status and a message, write nothing, and leave a session as it was.
 */
#include "check.h"

#include <math.h>
#include <stddef.h>

static float data[256];
static network good, twin;

#define ARGUMENT TN_ERROR_ARGUMENT
#define SHAPE TN_ERROR_SHAPE
#define COUNT(array) (sizeof(array) / sizeof *(array))

static void contexts(void) {
  tn_context_options options;
  tn_allocator allocator;
  char text[8];
  REFUSED_BARE(tn_context_create(NULL, NULL));
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  REFUSED_BARE(tn_context_create(&options, NULL));
  /* What the first release had, callers may give; less, nobody can have. */
  for (size_t size = 0; size < offsetof(tn_context_options, backend); size++) {
    options.struct_size = size;
    REFUSED_BARE(tn_context_create(&options, &out.context));
  }
  options.struct_size = SIZE_MAX;
  REFUSED_BARE(tn_context_create(&options, &out.context));
  options.struct_size = sizeof options;
  options.threads = 1025;
  REFUSED_BARE(tn_context_create(&options, &out.context));
  options.threads = UINT32_MAX;
  REFUSED_BARE(tn_context_create(&options, &out.context));
  options.threads = 1;
  options.isa = "z80";
  REFUSED_BARE(tn_context_create(&options, &out.context));
  options.isa = "";
  REFUSED_BARE(tn_context_create(&options, &out.context));
  options.isa = BROKEN;
  REFUSED_BARE(tn_context_create(&options, &out.context));
  options.isa = NULL;
  options.backend = "abacus";
  REFUSED_BARE(tn_context_create(&options, &out.context));
  options.backend = BROKEN;
  REFUSED_BARE(tn_context_create(&options, &out.context));
  options.backend = NULL;
  memset(&allocator, 0, sizeof allocator);
  options.allocator = &allocator;
  REFUSED_BARE(tn_context_create(&options, &out.context));
  allocator.struct_size = sizeof allocator;
  REFUSED_BARE(tn_context_create(&options, &out.context));
  tn_context_destroy(NULL);

  EXPECT(tn_version() == TN_VERSION);
  for (int32_t code = -2; code < 20; code++) EXPECT(*tn_status_text(code) != '\0');
  EXPECT(*tn_status_text(INT32_MIN) != '\0' && *tn_status_text(INT32_MAX) != '\0');

  /* A message is cut between characters, never written past, and comes whole where it fits. */
  REFUSED(ARGUMENT, tn_graph_output(good.graph, "\xc3\xa4\xc3\xb6\xc3\xbc", UINT32_MAX));
  REFUSED(TN_ERROR_NOT_FOUND, tn_session_read(good.session, "\xc3\xa4", NULL, 0));
  for (size_t size = 0; size <= sizeof text; size++) {
    memset(text, 'x', sizeof text);
    EXPECT(tn_error_message(cx, text, size) > sizeof text);
    EXPECT(size == 0 || strlen(text) < size);
    for (size_t i = size; i < sizeof text; i++) EXPECT(text[i] == 'x');
  }
  EXPECT(tn_error_message(cx, NULL, 0) > 1);
  EXPECT(tn_error_message(NULL, NULL, 0) == 1);
  EXPECT(tn_error_message(NULL, text, sizeof text) == 1 && text[0] == '\0');
}

/* Descriptions of tensors that cannot be, for each of the four functions that take one. */
static void description(tn_status want, tn_dtype dtype, const int64_t *dims, size_t rank) {
  tn_graph *g = good.graph;
  REFUSED(want, tn_graph_input(g, "new", dtype, dims, rank, &out.value));
  REFUSED(want, tn_graph_state(g, "new", dtype, dims, rank, &out.value));
  REFUSED(want, tn_graph_parameter(g, "new", dtype, dims, rank, NULL, 0, 0, &out.value));
  REFUSED(want, tn_graph_constant(g, dtype, dims, rank, data, 4, &out.value));
}

static void descriptions(void) {
  const int64_t negative[2] = {2, -1}, least[1] = {INT64_MIN}, wraps[2] = {INT64_C(1) << 32, INT64_C(1) << 32};
  const int64_t most[1] = {INT64_MAX}, hidden[3] = {0, INT64_MAX, 4}, row[2] = {2, 33};
  const int64_t nine[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1}, one[1] = {1};
  const tn_dtype unknown[] = {-1, 6, 15, 23, INT32_MIN, INT32_MAX};
  for (size_t i = 0; i < COUNT(unknown); i++) description(ARGUMENT, unknown[i], one, 1);
  description(ARGUMENT, TN_F32, NULL, 1);
  description(ARGUMENT, TN_F32, nine, 9);
  description(ARGUMENT, TN_F32, nine, SIZE_MAX);
  description(ARGUMENT, TN_F32, negative, 2);
  description(ARGUMENT, TN_F32, least, 1);
  description(SHAPE, TN_F32, wraps, 2);
  description(SHAPE, TN_F32, most, 1);
  description(SHAPE, TN_U8, most, 1);
  description(SHAPE, TN_F32, hidden, 3);
  description(SHAPE, TN_Q4_0, row, 2);
  description(SHAPE, TN_Q6_K, row, 2);
  description(SHAPE, TN_Q8_0, NULL, 0);
}

static void graphs(void) {
  const int64_t dims[2] = {2, 3};
  tn_graph *g = good.graph;
  REFUSED_BARE(tn_graph_create(NULL, &out.graph));
  REFUSED_BARE(tn_graph_create(NULL, NULL));
  REFUSED(ARGUMENT, tn_graph_create(cx, NULL));
  tn_graph_destroy(NULL);

  REFUSED_BARE(tn_graph_input(NULL, "new", TN_F32, dims, 2, &out.value));
  REFUSED_BARE(tn_graph_parameter(NULL, "new", TN_F32, dims, 2, NULL, 0, 0, &out.value));
  REFUSED_BARE(tn_graph_state(NULL, "new", TN_F32, dims, 2, &out.value));
  REFUSED_BARE(tn_graph_constant(NULL, TN_F32, dims, 2, data, 24, &out.value));
  REFUSED(ARGUMENT, tn_graph_input(g, "new", TN_F32, dims, 2, NULL));
  REFUSED(ARGUMENT, tn_graph_parameter(g, "new", TN_F32, dims, 2, NULL, 0, 0, NULL));
  REFUSED(ARGUMENT, tn_graph_state(g, "new", TN_F32, dims, 2, NULL));
  REFUSED(ARGUMENT, tn_graph_constant(g, TN_F32, dims, 2, data, 24, NULL));
  {
    const char *names[] = {NULL, BROKEN, "", "words", "table", "mean", "logits"};
    for (size_t i = 0; i < COUNT(names); i++) {
      const char *n = names[i];
      const tn_status want = i < 2 ? ARGUMENT : TN_ERROR_GRAPH;
      REFUSED(want, tn_graph_input(g, n, TN_F32, dims, 2, &out.value));
      REFUSED(want, tn_graph_parameter(g, n, TN_F32, dims, 2, NULL, 0, 0, &out.value));
      REFUSED(want, tn_graph_state(g, n, TN_F32, dims, 2, &out.value));
      if (i < 6) REFUSED(want, tn_graph_output(g, n, good.loss));
    }
  }
  descriptions();
  {
    const size_t sizes[] = {0, 1, 23, 25, SIZE_MAX};
    for (size_t i = 0; i < COUNT(sizes); i++) {
      REFUSED(ARGUMENT, tn_graph_parameter(g, "new", TN_F32, dims, 2, data, sizes[i], 0, &out.value));
      REFUSED(ARGUMENT, tn_graph_constant(g, TN_F32, dims, 2, data, sizes[i], &out.value));
    }
  }
  REFUSED(ARGUMENT, tn_graph_constant(g, TN_F32, dims, 2, NULL, 24, &out.value));
  REFUSED(TN_ERROR_GRAPH, tn_graph_parameter(g, "new", TN_I32, dims, 2, NULL, 0, 1, &out.value));
  REFUSED(TN_ERROR_GRAPH, tn_graph_parameter(g, "new", TN_BF16, dims, 2, NULL, 0, 1, &out.value));

  REFUSED_BARE(tn_graph_output(NULL, "new", good.loss));
  REFUSED(ARGUMENT, tn_graph_output(g, "new", UINT32_MAX));
  REFUSED_BARE(tn_graph_set_trainable(NULL, good.table, 1));
  REFUSED(ARGUMENT, tn_graph_set_trainable(g, UINT32_MAX, 1));
  REFUSED(TN_ERROR_GRAPH, tn_graph_set_trainable(g, good.loss, 1));
  REFUSED(TN_ERROR_GRAPH, tn_graph_set_trainable(g, good.words, 0));
  REFUSED_BARE(tn_graph_shape(NULL, good.loss, out.dims, &out.rank));
  REFUSED(ARGUMENT, tn_graph_shape(g, UINT32_MAX, out.dims, &out.rank));
  REFUSED(ARGUMENT, tn_graph_shape(g, good.loss, NULL, &out.rank));
  REFUSED(ARGUMENT, tn_graph_shape(g, good.loss, out.dims, NULL));
  REFUSED_BARE(tn_graph_dump(NULL, &out.text));
  REFUSED(ARGUMENT, tn_graph_dump(g, NULL));
  REFUSED_BARE(tn_graph_graphviz(NULL, &out.text));
  REFUSED(ARGUMENT, tn_graph_graphviz(g, NULL));
}

/* Tries to add an op that takes the network's hidden layer, [ROWS, WIDTH], with one attribute. */
static void attribute(tn_status want, const char *op, tn_attr attr) {
  const unsigned failed = failures;
  REFUSED(want, tn_graph_add(good.graph, op, &attr, 1, &good.hidden, 1, &out.value, 1, &out.size));
  if (failures > failed) printf("    op %s, kind %d\n", op, (int)attr.kind);
}

static void attributes(void) {
  const int64_t huge[3] = {INT64_MAX, INT64_MAX, 2}, minus[2] = {-1, -1}, zero[2] = {0, 0};
  const int64_t twice[2] = {0, 0}, beyond[2] = {0, 2}, least[2] = {INT64_MIN, INT64_MIN};
  tn_attr attrs[2] = {tn_attr_int("axes", 0), tn_attr_int("axes", 1)};
  tn_attr eps = tn_attr_float("eps", 1e-5);
  tn_graph *g = good.graph;
  tn_value *v = &good.hidden;
  for (tn_attr_kind kind = -1; kind < 7; kind++) {
    eps.kind = kind;
    if (kind != TN_ATTR_FLOAT && kind != TN_ATTR_INT) attribute(ARGUMENT, "clamp", eps);
  }
  attribute(ARGUMENT, "relu", tn_attr_int("slope", 1));
  attribute(ARGUMENT, "clamp", tn_attr_float("low", 1));
  attribute(ARGUMENT, "clamp", tn_attr_float("lo", NAN));
  attribute(ARGUMENT, "affine", tn_attr_float("mul", INFINITY));
  attribute(ARGUMENT, "affine", tn_attr_string("mul", "two"));
  attribute(ARGUMENT, "reduce_sum", tn_attr_int("keepdims", 7));
  attribute(ARGUMENT, "reduce_sum", tn_attr_string("keepdims", NULL));
  attribute(ARGUMENT, "reduce_sum", tn_attr_ints("axes", NULL, 2));
  attribute(ARGUMENT, "reduce_sum", tn_attr_ints("axes", twice, SIZE_MAX));
  attribute(ARGUMENT, "reduce_sum", tn_attr_string(NULL, "x"));
  attribute(ARGUMENT, "reduce_sum", tn_attr_string(BROKEN, "x"));
  attribute(ARGUMENT, "reduce_sum", tn_attr_string("axes", BROKEN));
  attribute(ARGUMENT, "cast", tn_attr_string("dtype", "f64"));
  attribute(ARGUMENT, "quantize", tn_attr_string("format", ""));
  attribute(ARGUMENT, "fused", tn_attr_string("program", "r0 = mul r9 i99"));
  attribute(ARGUMENT, "broadcast_to", tn_attr_ints("shape", minus, 2));
  attribute(SHAPE, "broadcast_to", tn_attr_ints("shape", huge, 3));
  attribute(SHAPE, "reshape", tn_attr_ints("shape", huge, 3));
  attribute(SHAPE, "reshape", tn_attr_ints("shape", minus, 2));
  attribute(SHAPE, "reshape", tn_attr_ints("shape", zero, 2));
  attribute(SHAPE, "reshape", tn_attr_ints("shape", least, 2));
  attribute(ARGUMENT, "transpose", tn_attr_ints("perm", twice, 2));
  attribute(ARGUMENT, "transpose", tn_attr_ints("perm", beyond, 2));
  attribute(ARGUMENT, "concat", tn_attr_int("axis", 2));
  attribute(ARGUMENT, "concat", tn_attr_int("axis", INT64_MIN));
  attribute(ARGUMENT, "reduce_max", tn_attr_ints("axes", beyond, 2));
  attribute(ARGUMENT, "reduce_max", tn_attr_ints("axes", least, 2));
  attribute(ARGUMENT, "group_norm", tn_attr_int("groups", 0));

  REFUSED(ARGUMENT, tn_graph_add(g, "reduce_sum", NULL, 1, v, 1, &out.value, 1, &out.size));
  REFUSED(ARGUMENT, tn_graph_add(g, "reduce_sum", attrs, 2, v, 1, &out.value, 1, &out.size));
  REFUSED(ARGUMENT, tn_graph_add(g, "reduce_sum", attrs, SIZE_MAX, v, 1, &out.value, 1, &out.size));
  attrs[1] = tn_attr_bool("keepdims", 1);
  attrs[1].struct_size++;
  REFUSED(ARGUMENT, tn_graph_add(g, "reduce_sum", attrs, 2, v, 1, &out.value, 1, &out.size));
  REFUSED_SIZES(attrs[0], tn_graph_add(g, "reduce_sum", attrs, 1, v, 1, &out.value, 1, &out.size));
}

static void ops(void) {
  const char *unknown[] = {"", "relu ", "RELU", "nonsense", "\xc3\xa4"};
  tn_graph *g = good.graph;
  tn_value v[4] = {good.hidden, good.hidden, good.words, good.table};
  tn_value none[2] = {good.hidden, UINT32_MAX};
  REFUSED_BARE(tn_graph_add(NULL, "relu", NULL, 0, v, 1, &out.value, 1, &out.size));
  REFUSED(ARGUMENT, tn_graph_add(g, NULL, NULL, 0, v, 1, &out.value, 1, &out.size));
  REFUSED(ARGUMENT, tn_graph_add(g, BROKEN, NULL, 0, v, 1, &out.value, 1, &out.size));
  for (size_t i = 0; i < COUNT(unknown); i++)
    REFUSED(TN_ERROR_NOT_FOUND, tn_graph_add(g, unknown[i], NULL, 0, v, 1, &out.value, 1, &out.size));
  REFUSED(ARGUMENT, tn_graph_add(g, "relu", NULL, 0, NULL, 1, &out.value, 1, &out.size));
  REFUSED(ARGUMENT, tn_graph_add(g, "relu", NULL, 0, v, SIZE_MAX, &out.value, 1, &out.size));
  REFUSED(ARGUMENT, tn_graph_add(g, "relu", NULL, 0, v, 0, &out.value, 1, &out.size));
  REFUSED(ARGUMENT, tn_graph_add(g, "relu", NULL, 0, v, 2, &out.value, 1, &out.size));
  REFUSED(ARGUMENT, tn_graph_add(g, "add", NULL, 0, none, 2, &out.value, 1, &out.size));
  REFUSED(ARGUMENT, tn_graph_add(g, "relu", NULL, 0, v, 1, NULL, 1, &out.size));
  REFUSED(ARGUMENT, tn_graph_add(g, "relu", NULL, 0, v, 1, &out.value, SIZE_MAX, &out.size));
  REFUSED(SHAPE, tn_graph_add(g, "relu", NULL, 0, &v[2], 1, &out.value, 1, &out.size));
  REFUSED(SHAPE, tn_graph_add(g, "add", NULL, 0, &v[1], 2, &out.value, 1, &out.size));
  REFUSED(SHAPE, tn_graph_add(g, "matmul", NULL, 0, v, 2, &out.value, 1, &out.size));
  REFUSED(SHAPE, tn_graph_add(g, "conv2d", NULL, 0, v, 2, &out.value, 1, &out.size));
  REFUSED(SHAPE, tn_graph_add(g, "embedding", NULL, 0, v, 2, &out.value, 1, &out.size));
  REFUSED(SHAPE, tn_graph_add(g, "cross_entropy", NULL, 0, v, 2, &out.value, 1, &out.size));
  REFUSED(ARGUMENT, tn_graph_add(g, "batch_norm", NULL, 0, v, 1, &out.value, 1, &out.size));
}

/* Options that no session can have, for both that take them. */
static void training(tn_status want, const tn_train_options *options) {
  REFUSED(want, tn_plan_graph(good.graph, good.loss, options, &out.plan));
  REFUSED(want, tn_session_create(good.graph, good.loss, options, &out.session));
}

static tn_train_options defaults(void) {
  tn_train_options options;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  return options;
}

static void train_options(void) {
  const float bad[] = {NAN, INFINITY, -INFINITY, -1.0f};
  tn_train_options o = defaults();
  REFUSED_SIZES(o, tn_plan_graph(good.graph, good.loss, &o, &out.plan));
  REFUSED_SIZES(o, tn_session_create(good.graph, good.loss, &o, &out.session));
  for (size_t i = 0; i < COUNT(bad); i++) {
    float *fields[] = {&o.lr, &o.weight_decay, &o.beta1, &o.beta2, &o.eps, &o.clip_norm};
    for (size_t f = 0; f < COUNT(fields); f++) {
      *fields[f] = bad[i];
      training(ARGUMENT, &o);
      o = defaults();
    }
    o.optimizer = TN_SGD;
    o.momentum = bad[i];
    training(ARGUMENT, &o);
    o = defaults();
  }
  o.beta1 = 1.0f;
  training(ARGUMENT, &o);
  o = defaults();
  o.optimizer = TN_SGD;
  o.nesterov = 1;
  training(ARGUMENT, &o);
  o = defaults();
  for (int32_t code = -1; code < 5; code += 4) {
    o.optimizer = code;
    training(ARGUMENT, &o);
    o = defaults();
    o.schedule = code;
    training(ARGUMENT, &o);
    o = defaults();
    o.state = code;
    training(ARGUMENT, &o);
    o = defaults();
  }
  o.memory_budget = 100;
  training(TN_ERROR_MEMORY, &o);
  /* As the header's first version had it, whatever lies behind. */
  o.state = -1;
  o.struct_size = offsetof(tn_train_options, state);
  training(TN_ERROR_MEMORY, &o);
}

static void losses(void) {
  const int64_t dims[1] = {3}, one[1] = {1}, table[2] = {1, 3};
  const int64_t huge[2] = {INT64_C(1) << 21, INT64_C(1) << 21};
  const tn_attr shape = tn_attr_ints("shape", huge, 2);
  const tn_value values[] = {UINT32_MAX, good.logits, good.words, good.table};
  tn_graph *g;
  tn_value p, x, loss, pair[2];
  for (size_t i = 0; i < COUNT(values); i++) {
    const tn_status want = i == 0 ? ARGUMENT : TN_ERROR_GRAPH;
    REFUSED(want, tn_plan_graph(good.graph, values[i], NULL, &out.plan));
    REFUSED(want, tn_session_create(good.graph, values[i], NULL, &out.session));
  }
  /* A value of another graph is a number that this one does not have. */
  MUST(tn_graph_create(cx, &g));
  REFUSED(ARGUMENT, tn_plan_graph(g, good.loss, NULL, &out.plan));
  REFUSED(ARGUMENT, tn_session_create(g, good.loss, NULL, &out.session));
  /* Nothing trains. */
  MUST(tn_graph_parameter(g, "p", TN_F32, dims, 1, NULL, 0, 0, &p));
  MUST(tn_graph_add(g, "reduce_sum", NULL, 0, &p, 1, &loss, 1, NULL));
  REFUSED(ARGUMENT, tn_plan_graph(g, loss, NULL, &out.plan));
  REFUSED(ARGUMENT, tn_session_create(g, loss, NULL, &out.session));
  /* An op without a gradient lies on the way. */
  MUST(tn_graph_set_trainable(g, p, 1));
  MUST(tn_graph_add(g, "grad_norm", NULL, 0, &p, 1, &x, 1, NULL));
  REFUSED(TN_ERROR_GRAPH, tn_plan_graph(g, x, NULL, &out.plan));
  REFUSED(TN_ERROR_GRAPH, tn_session_create(g, x, NULL, &out.session));
  /* So does an output that is not the op's first: its gradient would silently be left out. */
  {
    const tn_attr matrix = tn_attr_ints("shape", table, 2);
    const int32_t target = 0;
    tn_value made[2];
    MUST(tn_graph_add(g, "reshape", &matrix, 1, &p, 1, &pair[0], 1, NULL));
    MUST(tn_graph_constant(g, TN_I32, one, 1, &target, sizeof target, &pair[1]));
    MUST(tn_graph_add(g, "cross_entropy", NULL, 0, pair, 2, made, 2, NULL));
    MUST(tn_graph_add(g, "reduce_sum", NULL, 0, &made[1], 1, &pair[1], 1, NULL));
    REFUSED(TN_ERROR_GRAPH, tn_session_create(g, pair[1], NULL, &out.session));
    pair[0] = made[0];
    MUST(tn_graph_add(g, "add", NULL, 0, pair, 2, &x, 1, NULL));
    REFUSED(TN_ERROR_GRAPH, tn_session_create(g, x, NULL, &out.session));
  }
  /* Names that belong to the session. */
  MUST(tn_graph_output(g, "loss", p));
  REFUSED(TN_ERROR_GRAPH, tn_session_create(g, loss, NULL, &out.session));
  tn_graph_destroy(g);
  MUST(tn_graph_create(cx, &g));
  MUST(tn_graph_parameter(g, "loss", TN_F32, one, 1, NULL, 0, 1, &p));
  MUST(tn_graph_add(g, "reduce_sum", NULL, 0, &p, 1, &loss, 1, NULL));
  REFUSED(TN_ERROR_GRAPH, tn_plan_graph(g, loss, NULL, &out.plan));
  REFUSED(TN_ERROR_GRAPH, tn_session_create(g, loss, NULL, &out.session));
  tn_graph_destroy(g);
  /* More memory than there is. */
  MUST(tn_graph_create(cx, &g));
  MUST(tn_graph_parameter(g, "p", TN_F32, one, 1, NULL, 0, 1, &p));
  MUST(tn_graph_add(g, "broadcast_to", &shape, 1, &p, 1, &x, 1, NULL));
  for (int i = 0; i < 4; i++) {
    MUST(tn_graph_add(g, "exp", NULL, 0, &x, 1, &pair[0], 1, NULL));
    pair[1] = x;
    MUST(tn_graph_add(g, "matmul", NULL, 0, pair, 2, &x, 1, NULL));
  }
  MUST(tn_graph_add(g, "reduce_mean", NULL, 0, &x, 1, &loss, 1, NULL));
  REFUSED(TN_ERROR_MEMORY, tn_session_create(g, loss, NULL, &out.session));
  tn_graph_destroy(g);
}

static void sessions(void) {
  tn_plan plan;
  REFUSED_BARE(tn_plan_graph(NULL, good.loss, NULL, &out.plan));
  REFUSED_BARE(tn_session_create(NULL, good.loss, NULL, &out.session));
  REFUSED(ARGUMENT, tn_plan_graph(good.graph, good.loss, NULL, NULL));
  REFUSED(ARGUMENT, tn_session_create(good.graph, good.loss, NULL, NULL));
  REFUSED_SIZES(plan, tn_plan_graph(good.graph, good.loss, NULL, &plan));
  REFUSED_SIZES(plan, tn_session_plan(good.session, &plan));
  REFUSED(ARGUMENT, tn_session_plan(good.session, NULL));
  REFUSED_BARE(tn_session_plan(NULL, &out.plan));
  tn_session_destroy(NULL);
  train_options();
  losses();
}

static void tensors(void) {
  const char *names[] = {NULL, BROKEN, "", "nonsense", "Words"};
  const size_t sizes[] = {0, 1, ROWS * 4 - 1, ROWS * 4 + 1, SIZE_MAX};
  const float zeros[ROWS * CLASSES] = {0};
  tn_session *s = good.session;
  REFUSED_BARE(tn_session_write(NULL, "words", data, 16));
  REFUSED_BARE(tn_session_read(NULL, "words", out.bytes, 16));
  for (size_t i = 0; i < COUNT(names); i++) {
    const tn_status want = i < 2 ? ARGUMENT : TN_ERROR_NOT_FOUND;
    REFUSED(want, tn_session_write(s, names[i], data, 16));
    REFUSED(want, tn_session_read(s, names[i], out.bytes, 16));
  }
  for (size_t i = 0; i < COUNT(sizes); i++) {
    REFUSED(ARGUMENT, tn_session_write(s, "words", data, sizes[i]));
    REFUSED(ARGUMENT, tn_session_read(s, "words", out.bytes, sizes[i]));
    REFUSED(ARGUMENT, tn_session_read(s, "loss", out.bytes, sizes[i]));
  }
  REFUSED(ARGUMENT, tn_session_write(s, "words", NULL, 16));
  REFUSED(ARGUMENT, tn_session_read(s, "words", NULL, 16));
  /* Outputs are not for writing, and gradients were not asked for. */
  REFUSED(TN_ERROR_NOT_FOUND, tn_session_write(s, "logits", zeros, sizeof zeros));
  REFUSED(TN_ERROR_NOT_FOUND, tn_session_write(s, "loss", zeros, 4));
  REFUSED(TN_ERROR_NOT_FOUND, tn_session_read(s, "grad/w", out.bytes, 256));
}

static void parameters(void) {
  const size_t sizes[] = {0, 1, 4, SIZE_MAX};
  tn_parameter p;
  tn_session *s = good.session;
  size_t size, count;
  REFUSED_BARE(tn_session_parameter_count(NULL, &out.size, &out.size));
  MUST(tn_session_parameter_count(s, NULL, NULL));
  MUST(tn_session_parameter_count(s, &count, NULL));
  REFUSED_BARE(tn_session_parameter(NULL, 0, &out.parameter));
  REFUSED(ARGUMENT, tn_session_parameter(s, 0, NULL));
  REFUSED(ARGUMENT, tn_session_parameter(s, count, &out.parameter));
  REFUSED(ARGUMENT, tn_session_parameter(s, SIZE_MAX, &out.parameter));
  REFUSED_SIZES(p, tn_session_parameter(s, 0, &p));
  REFUSED_BARE(tn_session_trainable_size(NULL, &out.size));
  REFUSED(ARGUMENT, tn_session_trainable_size(s, NULL));
  MUST(tn_session_trainable_size(s, &size));
  REFUSED_BARE(tn_session_get_trainable(NULL, out.bytes, size));
  REFUSED_BARE(tn_session_set_trainable(NULL, data, size));
  REFUSED_BARE(tn_session_get_gradients(NULL, out.bytes, size));
  REFUSED(ARGUMENT, tn_session_get_trainable(s, NULL, size));
  REFUSED(ARGUMENT, tn_session_set_trainable(s, NULL, size));
  REFUSED(ARGUMENT, tn_session_get_gradients(s, out.bytes, size));
  for (size_t i = 0; i < COUNT(sizes); i++) {
    REFUSED(ARGUMENT, tn_session_get_trainable(s, out.bytes, sizes[i]));
    REFUSED(ARGUMENT, tn_session_set_trainable(s, data, sizes[i]));
    REFUSED(ARGUMENT, tn_session_get_gradients(s, out.bytes, sizes[i]));
  }
  REFUSED(ARGUMENT, tn_session_get_trainable(s, out.bytes, size - 1));
  REFUSED(ARGUMENT, tn_session_set_trainable(s, data, size + 1));
}

/* Stops before a node; counts down to it. */
static int32_t stop_at(void *left, uint64_t done, uint64_t total) {
  EXPECT(done < total);
  return --*(int *)left < 0;
}

static int32_t count(void *calls, uint64_t done, uint64_t total) {
  EXPECT(done < total);
  ++*(int *)calls;
  return 0;
}

static tn_run_options stopping(int *left) {
  tn_run_options run;
  memset(&run, 0, sizeof run);
  run.struct_size = sizeof run;
  run.progress = stop_at;
  run.progress_user = left;
  return run;
}

static void steps(void) {
  const int32_t words[] = {WORDS, -1, INT32_MIN, INT32_MAX};
  int32_t batch[ROWS] = {0, 1, 2, 3};
  float loss;
  int left = 0;
  tn_run_options run = stopping(&left);
  tn_report report;
  tn_session *s = good.session;
  REFUSED_BARE(tn_session_step(NULL, NULL, &out.report));
  REFUSED_BARE(tn_session_evaluate(NULL, NULL, &out.loss));
  REFUSED(ARGUMENT, tn_session_evaluate(s, NULL, NULL));
  REFUSED_SIZES(run, tn_session_step(s, &run, &out.report));
  REFUSED_SIZES(run, tn_session_evaluate(s, &run, &out.loss));
  REFUSED_SIZES(report, tn_session_step(s, NULL, &report));
  for (size_t i = 0; i < COUNT(words); i++) {
    batch[i] = words[i];
    MUST(tn_session_write(s, "words", batch, sizeof batch));
    REFUSED(SHAPE, tn_session_step(s, NULL, &out.report));
    REFUSED(SHAPE, tn_session_evaluate(s, NULL, &out.loss));
    batch[i] = 0;
  }
  /* The step that failed has no outputs. */
  REFUSED(ARGUMENT, tn_session_read(s, "logits", out.bytes, ROWS * CLASSES * 4));
  MUST(tn_session_write(s, "words", batch, sizeof batch));
  REFUSED(TN_ERROR_CANCELLED, tn_session_step(s, &run, &out.report));
  REFUSED(TN_ERROR_CANCELLED, tn_session_evaluate(s, &run, &out.loss));
  /* An evaluation is no step, and leaves running statistics alone. */
  MUST(tn_session_evaluate(s, NULL, &loss));
  REFUSED_BARE(tn_session_set_memory_budget(NULL, 0));
  REFUSED(TN_ERROR_MEMORY, tn_session_set_memory_budget(s, 1));
  /* Progress is told of before every node, or after as long as was asked for. */
  run.progress = count;
  run.progress_ms = UINT32_MAX;
  left = 0;
  MUST(tn_session_evaluate(s, &run, &loss));
  EXPECT(left == 0);
  run.progress_ms = 0;
  MUST(tn_session_evaluate(s, &run, &loss));
  EXPECT(left > 3);
  run.progress = NULL;
  run.trace_file = "no/such/folder/trace.json";
  REFUSED(TN_ERROR_IO, tn_session_evaluate(s, &run, &out.loss));
  run.trace_file = "trace.json";
  MUST(tn_session_evaluate(s, &run, &loss));
  MUST(tn_session_set_memory_budget(s, 0));
}

/* A session that nothing was written to has nothing to run on and nothing to give. */
static void fresh(void) {
  network n = make_network(data, NULL);
  const int32_t batch[ROWS] = {0, 1, 2, 0};
  REFUSED(ARGUMENT, tn_session_step(n.session, NULL, &out.report));
  REFUSED(ARGUMENT, tn_session_evaluate(n.session, NULL, &out.loss));
  MUST(tn_session_write(n.session, "words", batch, sizeof batch));
  REFUSED(ARGUMENT, tn_session_step(n.session, NULL, &out.report));
  REFUSED(ARGUMENT, tn_session_read(n.session, "loss", out.bytes, 4));
  MUST(tn_session_write(n.session, "targets", batch, sizeof batch));
  REFUSED(ARGUMENT, tn_session_read(n.session, "logits", out.bytes, ROWS * CLASSES * 4));
  MUST(tn_session_step(n.session, NULL, NULL));
  MUST(tn_session_read(n.session, "loss", out.bytes, 4));
  free_network(n);
}

/* However late a step is stopped, it does not count, and the steps after it update in their turn. */
static void stopped_anywhere(void) {
  tn_train_options options = defaults();
  network n;
  const int32_t batch[ROWS] = {0, 1, 2, 0};
  uint64_t updates = 0;
  options.accumulation = 2;
  options.clip_norm = 1.0f;
  n = make_network(data, &options);
  MUST(tn_session_write(n.session, "words", batch, sizeof batch));
  MUST(tn_session_write(n.session, "targets", batch, sizeof batch));
  for (int nodes = 0;; nodes++) {
    int left = nodes;
    tn_run_options run = stopping(&left);
    tn_report report;
    tn_status status;
    report.struct_size = sizeof report;
    MUST(tn_session_step(n.session, NULL, &report));
    EXPECT(report.step == updates && report.lr == 0.0f);
    REFUSED(ARGUMENT, tn_session_save(n.session, "unused", NULL));
    status = tn_session_step(n.session, &run, &report);
    if (status == TN_OK) break;
    EXPECT(status == TN_ERROR_CANCELLED && report.step == updates);
    MUST(tn_session_step(n.session, NULL, &report));
    EXPECT(report.step == updates && report.lr == 0.0f);
    MUST(tn_session_step(n.session, NULL, &report));
    EXPECT(report.step == ++updates && report.lr > 0.0f && report.loss < 10.0f);
  }
  EXPECT(updates > 20);
  free_network(n);
}

/* Contexts do not hear of each other's failures, and what is left of one outlives it. */
static void two_contexts(void) {
  tn_context *other;
  tn_graph *g;
  char text[64];
  MUST(tn_context_create(NULL, &other));
  MUST(tn_graph_create(other, &g));
  prepare();
  EXPECT(tn_graph_output(g, "x", 1) == ARGUMENT);
  EXPECT(tn_error_message(other, text, sizeof text) > 1 && strstr(text, "123456789") == NULL);
  EXPECT(tn_error_message(cx, text, sizeof text) > 1 && strstr(text, "123456789") != NULL);
  tn_context_destroy(other);
  EXPECT(tn_graph_output(g, "x", 1) == ARGUMENT);
  tn_graph_destroy(g);
}

int main(void) {
  void (*const groups[])(void) = {contexts, graphs, ops,    attributes, sessions,
                                  tensors,  steps,  parameters, fresh,  two_contexts};
  for (size_t i = 0; i < COUNT(data); i++) data[i] = noise();
  begin();
  good = make_network(data, NULL);
  twin = make_network(data, NULL);
  same_twins(good, twin, __LINE__);
  for (size_t i = 0; i < COUNT(groups); i++) {
    groups[i]();
    same_twins(good, twin, __LINE__);
  }
  stopped_anywhere();
  free_network(good);
  free_network(twin);
  return end();
}
