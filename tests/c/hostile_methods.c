/*
 * Bad input to what federated clients need beyond plain training: rounds,
 * private training, and parts of a model. As in
 * hostile.c, each call must be refused with the right status and a message, and change nothing.
 */
#include "check.h"

#include <math.h>

#define ARGUMENT TN_ERROR_ARGUMENT
#define SHAPE TN_ERROR_SHAPE
#define COUNT(array) (sizeof(array) / sizeof *(array))

enum { LONG = 32, SIZE = ROWS * LONG * 4 };

static float data[ROWS * LONG + LONG * LONG];

/* x -> (w) -> y, which is sent on. */
typedef struct part {
  tn_graph *graph;
  tn_value x, w, y;
} part;

static part make_part(void) {
  const int64_t rows[2] = {ROWS, LONG}, square[2] = {LONG, LONG};
  part p;
  tn_value in[2];
  MUST(tn_graph_create(cx, &p.graph));
  MUST(tn_graph_input(p.graph, "x", TN_F32, rows, 2, &p.x));
  MUST(tn_graph_parameter(p.graph, "w", TN_F32, square, 2, data + ROWS * LONG, LONG * LONG * 4, 1, &p.w));
  in[0] = p.x;
  in[1] = p.w;
  MUST(tn_graph_add(p.graph, "linear", NULL, 0, in, 2, &p.y, 1, NULL));
  return p;
}

static void sends(void) {
  const char *names[] = {NULL, BROKEN, "", "x", "w"};
  const tn_dtype types[] = {-1, 6, TN_I8, TN_I32, TN_U8, TN_Q4_K};
  const tn_status wants[] = {ARGUMENT, ARGUMENT, SHAPE, SHAPE, SHAPE, SHAPE};
  const int64_t narrow[1] = {7}, many[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1}, negative[1] = {-1};
  part p = make_part();
  tn_graph *g = p.graph;
  tn_value ids, short_row, received;
  REFUSED_BARE(tn_graph_send(NULL, "y", TN_F32, p.y, 1));
  REFUSED_BARE(tn_graph_receive(NULL, "z", TN_F32, narrow, 1, 1, &out.value));
  REFUSED(ARGUMENT, tn_graph_send(g, "y", TN_F32, UINT32_MAX, 1));
  REFUSED(ARGUMENT, tn_graph_receive(g, "z", TN_F32, narrow, 1, 1, NULL));
  for (size_t i = 0; i < COUNT(names); i++) {
    const tn_status want = i < 2 ? ARGUMENT : TN_ERROR_GRAPH;
    REFUSED(want, tn_graph_send(g, names[i], TN_F32, p.y, 1));
    REFUSED(want, tn_graph_receive(g, names[i], TN_F32, narrow, 1, 1, &out.value));
  }
  for (size_t i = 0; i < COUNT(types); i++) REFUSED(wants[i], tn_graph_send(g, "y", types[i], p.y, 1));
  REFUSED(ARGUMENT, tn_graph_receive(g, "z", TN_F32, NULL, 1, 1, &out.value));
  REFUSED(ARGUMENT, tn_graph_receive(g, "z", TN_F32, many, 9, 1, &out.value));
  REFUSED(ARGUMENT, tn_graph_receive(g, "z", TN_F32, negative, 1, 1, &out.value));
  REFUSED(ARGUMENT, tn_graph_receive(g, "z", 99, narrow, 1, 1, &out.value));
  REFUSED(SHAPE, tn_graph_receive(g, "z", TN_I32, narrow, 1, 1, &out.value));
  REFUSED(SHAPE, tn_graph_receive(g, "z", TN_Q8_0, narrow, 1, 1, &out.value));
  MUST(tn_graph_input(g, "ids", TN_I32, narrow, 1, &ids));
  MUST(tn_graph_input(g, "short", TN_F32, narrow, 1, &short_row));
  REFUSED(SHAPE, tn_graph_send(g, "ids sent", TN_F32, ids, 1));
  REFUSED(SHAPE, tn_graph_send(g, "short sent", TN_Q8_0, short_row, 1));
  /* What was refused left no name behind. */
  MUST(tn_graph_send(g, "y", TN_Q8_0, p.y, 1));
  REFUSED(TN_ERROR_GRAPH, tn_graph_send(g, "y", TN_F32, p.y, 1));
  REFUSED(TN_ERROR_GRAPH, tn_graph_receive(g, "grad/y", TN_F32, narrow, 1, 1, &out.value));
  /* A gradient is to go back for something that nothing depends on. */
  MUST(tn_graph_receive(g, "z", TN_BF16, narrow, 1, 1, &received));
  REFUSED(TN_ERROR_GRAPH, tn_session_create(g, TN_NO_VALUE, NULL, &out.session));
  tn_graph_destroy(g);
}

/* Stops before a node; counts down to it. */
static int32_t stop_at(void *left, uint64_t done, uint64_t total) {
  EXPECT(done < total);
  return --*(int *)left < 0;
}

static void waits(void) {
  part p = make_part();
  tn_session *s, *plain;
  tn_run_options run;
  tn_train_options training;
  tn_report report;
  float loss, y[ROWS * LONG];
  tn_value sum;
  int left = 0;
  memset(&run, 0, sizeof run);
  run.struct_size = sizeof run;
  memset(&training, 0, sizeof training);
  training.struct_size = sizeof training;
  REFUSED_BARE(tn_session_forward(NULL, NULL));
  MUST(tn_graph_add(p.graph, "reduce_sum", NULL, 0, &p.y, 1, &sum, 1, NULL));
  MUST(tn_session_create(p.graph, sum, NULL, &plain));
  MUST(tn_session_write(plain, "x", data, SIZE));
  REFUSED(ARGUMENT, tn_session_forward(plain, NULL));
  tn_session_destroy(plain);

  MUST(tn_graph_send(p.graph, "y", TN_F32, p.y, 1));
  training.clip_norm = 1.0f;
  training.clipping = TN_CLIP_TWO_PASS;
  REFUSED(ARGUMENT, tn_session_create(p.graph, TN_NO_VALUE, &training, &out.session));
  MUST(tn_session_create(p.graph, TN_NO_VALUE, NULL, &s));
  REFUSED(ARGUMENT, tn_session_forward(s, NULL));
  MUST(tn_session_write(s, "x", data, SIZE));
  REFUSED(ARGUMENT, tn_session_step(s, NULL, &out.report));
  MUST(tn_session_write(s, "grad/y", data, SIZE));
  REFUSED(ARGUMENT, tn_session_step(s, NULL, &out.report));
  REFUSED(ARGUMENT, tn_session_read(s, "y", out.bytes, SIZE));
  REFUSED_SIZES(run, tn_session_forward(s, &run));
  run.trace_file = "no/such/folder/trace.json";
  REFUSED(TN_ERROR_IO, tn_session_forward(s, &run));
  run.trace_file = NULL;
  run.progress = stop_at;
  run.progress_user = &left;
  REFUSED(TN_ERROR_CANCELLED, tn_session_forward(s, &run));
  REFUSED(ARGUMENT, tn_session_read(s, "y", out.bytes, SIZE));
  REFUSED(ARGUMENT, tn_session_step(s, NULL, &out.report));
  /* What came back before the forward run belongs to another. */
  MUST(tn_session_forward(s, NULL));
  MUST(tn_session_read(s, "y", y, sizeof y));
  REFUSED(ARGUMENT, tn_session_step(s, NULL, &out.report));
  REFUSED(ARGUMENT, tn_session_write(s, "grad/y", data, SIZE - 4));
  REFUSED(TN_ERROR_NOT_FOUND, tn_session_write(s, "y", data, SIZE));
  MUST(tn_session_write(s, "grad/y", data, SIZE));
  /* An evaluation takes the memory of what waits. */
  MUST(tn_session_evaluate(s, NULL, &loss));
  EXPECT(loss == 0.0f);
  REFUSED(ARGUMENT, tn_session_step(s, NULL, &out.report));
  MUST(tn_session_forward(s, NULL));
  MUST(tn_session_write(s, "grad/y", data, SIZE));
  left = 0;
  REFUSED(TN_ERROR_CANCELLED, tn_session_step(s, &run, &out.report));
  REFUSED(ARGUMENT, tn_session_step(s, NULL, &out.report));
  MUST(tn_session_forward(s, NULL));
  MUST(tn_session_write(s, "grad/y", data, SIZE));
  report.struct_size = sizeof report;
  MUST(tn_session_step(s, NULL, &report));
  EXPECT(report.step == 1 && report.loss == 0.0f);
  REFUSED(ARGUMENT, tn_session_step(s, NULL, &out.report));
  tn_session_destroy(s);
  tn_graph_destroy(p.graph);
}

/* Rounds that a session does not keep, and buffers that do not fit what it does. */
static void rounds(void) {
  const float bad[] = {NAN, INFINITY, -INFINITY, -1.0f};
  const size_t sizes[] = {0, 4, LONG * LONG * 4 - 4, LONG * LONG * 4 + 4, SIZE_MAX};
  const tn_kept kinds[] = {TN_KEPT_ANCHOR, TN_KEPT_CONTROL, TN_KEPT_SERVER_CONTROL, TN_KEPT_OUTER_MOMENTUM};
  static float kept[LONG * LONG], w[LONG * LONG];
  tn_train_options o;
  tn_session *s;
  tn_value loss;
  tn_report report;
  part p = make_part();
  memset(&o, 0, sizeof o);
  o.struct_size = sizeof o;
  MUST(tn_graph_add(p.graph, "reduce_mean", NULL, 0, &p.y, 1, &loss, 1, NULL));
  for (size_t i = 0; i < COUNT(bad); i++) {
    float *fields[] = {&o.proximal, &o.outer_lr, &o.outer_momentum};
    for (size_t f = 0; f < COUNT(fields); f++) {
      *fields[f] = bad[i];
      REFUSED(ARGUMENT, tn_session_create(p.graph, loss, &o, &out.session));
      REFUSED(ARGUMENT, tn_plan_graph(p.graph, loss, &o, &out.plan));
      *fields[f] = 0;
    }
  }
  o.outer_lr = 0.7f;
  o.outer_momentum = 1.0f;
  REFUSED(ARGUMENT, tn_session_create(p.graph, loss, &o, &out.session));
  o.outer_lr = o.outer_momentum = 0;

  REFUSED_BARE(tn_session_begin_round(NULL));
  REFUSED_BARE(tn_session_renew_control(NULL));
  REFUSED_BARE(tn_session_outer_step(NULL));
  REFUSED_BARE(tn_session_get_kept(NULL, TN_KEPT_ANCHOR, out.bytes, 4));
  REFUSED_BARE(tn_session_set_kept(NULL, TN_KEPT_ANCHOR, data, 4));
  MUST(tn_session_create(p.graph, loss, &o, &s));
  REFUSED(ARGUMENT, tn_session_begin_round(s));
  REFUSED(ARGUMENT, tn_session_renew_control(s));
  REFUSED(ARGUMENT, tn_session_outer_step(s));
  for (size_t i = 0; i < COUNT(kinds); i++) {
    REFUSED(ARGUMENT, tn_session_get_kept(s, kinds[i], kept, sizeof kept));
    REFUSED(ARGUMENT, tn_session_set_kept(s, kinds[i], kept, sizeof kept));
  }
  tn_session_destroy(s);

  o.proximal = 0.1f;
  o.control_variates = 1;
  o.outer_lr = 0.5f;
  o.outer_momentum = 0.9f;
  o.accumulation = 2;
  MUST(tn_session_create(p.graph, loss, &o, &s));
  for (tn_kept kind = -1; kind < 5; kind += 5) {
    REFUSED(ARGUMENT, tn_session_get_kept(s, kind, kept, sizeof kept));
    REFUSED(ARGUMENT, tn_session_set_kept(s, kind, kept, sizeof kept));
  }
  for (size_t k = 0; k < COUNT(kinds); k++) {
    for (size_t i = 0; i < COUNT(sizes); i++) {
      REFUSED(ARGUMENT, tn_session_get_kept(s, kinds[k], i < 3 ? (void *)kept : NULL, sizes[i]));
      REFUSED(ARGUMENT, tn_session_set_kept(s, kinds[k], i < 3 ? (void *)kept : NULL, sizes[i]));
    }
    REFUSED(ARGUMENT, tn_session_get_kept(s, kinds[k], NULL, sizeof kept));
    REFUSED(ARGUMENT, tn_session_set_kept(s, kinds[k], NULL, sizeof kept));
    MUST(tn_session_get_kept(s, kinds[k], kept, sizeof kept));
    for (size_t i = 0; i < COUNT(kept); i++) EXPECT(kept[i] == (k == 0 ? data[ROWS * LONG + i] : 0.0f));
    MUST(tn_session_set_kept(s, kinds[k], kept, sizeof kept));
  }
  REFUSED(ARGUMENT, tn_session_renew_control(s));
  MUST(tn_session_write(s, "x", data, SIZE));
  MUST(tn_session_step(s, NULL, NULL));
  REFUSED(ARGUMENT, tn_session_begin_round(s));
  REFUSED(ARGUMENT, tn_session_renew_control(s));
  REFUSED(ARGUMENT, tn_session_outer_step(s));
  report.struct_size = sizeof report;
  MUST(tn_session_step(s, NULL, &report));
  EXPECT(report.step == 1);
  MUST(tn_session_renew_control(s));
  MUST(tn_session_outer_step(s));
  /* The outputs of the step went with the memory that the round took. */
  REFUSED(ARGUMENT, tn_session_read(s, "loss", out.bytes, 4));
  MUST(tn_session_get_kept(s, TN_KEPT_ANCHOR, kept, sizeof kept));
  MUST(tn_session_get_trainable(s, w, sizeof w));
  EXPECT(memcmp(kept, w, sizeof w) == 0);
  tn_session_destroy(s);
  tn_graph_destroy(p.graph);
}

/* Clipping of single samples that cannot be, and a step of one that can. */
static void privacy(void) {
  const float bad[] = {NAN, INFINITY, -INFINITY, -1.0f};
  static float kept[LONG * LONG], again[LONG * LONG];
  tn_train_options o;
  tn_session *s;
  tn_value loss, sum;
  part p = make_part();
  memset(&o, 0, sizeof o);
  o.struct_size = sizeof o;
  MUST(tn_graph_add(p.graph, "reduce_mean", NULL, 0, &p.y, 1, &loss, 1, NULL));
  o.sample_clip_norm = 1.0f;
  REFUSED(ARGUMENT, tn_session_create(p.graph, loss, &o, &out.session));
  o.samples = 3;
  REFUSED(ARGUMENT, tn_session_create(p.graph, loss, &o, &out.session));
  REFUSED(ARGUMENT, tn_plan_graph(p.graph, loss, &o, &out.plan));
  o.samples = ROWS;
  for (size_t i = 0; i < COUNT(bad); i++) {
    float *fields[] = {&o.sample_clip_norm, &o.noise_multiplier};
    for (size_t f = 0; f < COUNT(fields); f++) {
      *fields[f] = bad[i];
      REFUSED(ARGUMENT, tn_session_create(p.graph, loss, &o, &out.session));
      *fields[f] = 1.0f;
    }
  }
  REFUSED(ARGUMENT, tn_session_create(p.graph, loss, &o, &out.session));
  o.noise_seed = 7;
  o.sample_clip_norm = 0;
  REFUSED(ARGUMENT, tn_session_create(p.graph, loss, &o, &out.session));
  o.sample_clip_norm = 1.0f;
  o.keep_gradients = 1;
  REFUSED(ARGUMENT, tn_session_create(p.graph, loss, &o, &out.session));
  o.keep_gradients = 0;
  /* A loss that mixes samples before it is one. */
  MUST(tn_graph_add(p.graph, "exp", NULL, 0, &loss, 1, &sum, 1, NULL));
  REFUSED(TN_ERROR_GRAPH, tn_session_create(p.graph, sum, &o, &out.session));
  REFUSED(TN_ERROR_GRAPH, tn_plan_graph(p.graph, sum, &o, &out.plan));
  for (int run = 0; run < 2; run++) {
    tn_graph_destroy(p.graph);
    p = make_part();
    MUST(tn_graph_add(p.graph, "reduce_mean", NULL, 0, &p.y, 1, &loss, 1, NULL));
    MUST(tn_session_create(p.graph, loss, &o, &s));
    MUST(tn_session_write(s, "x", data, SIZE));
    MUST(tn_session_step(s, NULL, NULL));
    MUST(tn_session_get_trainable(s, run == 0 ? kept : again, sizeof kept));
    tn_session_destroy(s);
  }
  EXPECT(memcmp(kept, again, sizeof kept) == 0);
  EXPECT(memcmp(kept, data + ROWS * LONG, sizeof kept) != 0);
  /* Parts do not know the norms of the others' gradients. */
  MUST(tn_graph_send(p.graph, "y", TN_F32, p.y, 1));
  REFUSED(ARGUMENT, tn_session_create(p.graph, TN_NO_VALUE, &o, &out.session));
  tn_graph_destroy(p.graph);
}

int main(void) {
  for (size_t i = 0; i < COUNT(data); i++) data[i] = noise();
  begin();
  sends();
  waits();
  rounds();
  privacy();
  return end();
}
