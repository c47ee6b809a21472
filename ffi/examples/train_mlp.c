/*
 * Trains a small network to tell the inside of a circle from its outside:
 *
 *   cargo build --profile dist -p tenon
 *   cc -std=c99 -Iffi/include ffi/examples/train_mlp.c -Ltarget/dist -ltenon -o train_mlp
 *   LD_LIBRARY_PATH=target/dist ./train_mlp
 *
 * Prints the falling loss and how many unseen points it gets right; exits with 1 if that is few.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tenon.h>

enum { BATCH = 64, HIDDEN = 32, LAYERS = 3, STEPS = 300 };

static tn_context *context;

/* Ends the program with the reason if a call failed. */
static void check(tn_status status) {
  char why[512];
  if (status == TN_OK) return;
  tn_error_message(context, why, sizeof why);
  fprintf(stderr, "%s: %s\n", tn_status_text(status), why);
  exit(1);
}

/* A number from -1 to 1, the same sequence on every machine. */
static float uniform(void) {
  static uint32_t state = 1;
  state = state * 1664525u + 1013904223u;
  return (float)(state >> 8) / 8388608.0f - 1.0f;
}

/* Writes points of a square, and on which side of a circle each lies, into the session. */
static void write_batch(tn_session *session, int32_t sides[BATCH]) {
  float points[BATCH][2];
  for (int i = 0; i < BATCH; i++) {
    float x = points[i][0] = uniform(), y = points[i][1] = uniform();
    sides[i] = x * x + y * y < 0.6f;
  }
  check(tn_session_write(session, "points", points, sizeof points));
  check(tn_session_write(session, "sides", sides, BATCH * sizeof sides[0]));
}

/* y = x W^T + b; both train. W is drawn so that signals keep their size, b starts as zeros. */
static tn_value linear(tn_graph *graph, int layer, tn_value x, int64_t in, int64_t out) {
  const int64_t dims[2] = {out, in};
  const float scale = in == 2 ? 1.0f : 0.3f;
  float weight[HIDDEN * HIDDEN];
  tn_value inputs[3], y;
  char name[32];
  for (int64_t i = 0; i < in * out; i++) weight[i] = scale * uniform();
  inputs[0] = x;
  snprintf(name, sizeof name, "layer%d.weight", layer);
  check(tn_graph_parameter(graph, name, TN_F32, dims, 2, weight,
                           (size_t)(in * out) * sizeof weight[0], 1, &inputs[1]));
  snprintf(name, sizeof name, "layer%d.bias", layer);
  check(tn_graph_parameter(graph, name, TN_F32, dims, 1, NULL, 0, 1, &inputs[2]));
  check(tn_graph_add(graph, "linear", NULL, 0, inputs, 3, &y, 1, NULL));
  return y;
}

int main(void) {
  const int64_t dims[2] = {BATCH, 2}, width[LAYERS + 1] = {2, HIDDEN, HIDDEN, 2};
  const tn_attr mean = tn_attr_string("reduction", "mean");
  tn_graph *graph;
  tn_session *session;
  tn_value x, pair[2], loss;
  tn_train_options options;
  tn_plan plan;
  tn_report report;
  float logits[BATCH][2], first = 0, unseen;
  int32_t sides[BATCH];
  int right = 0;

  /* The graph: ops by name, each with its attributes and what it reads. */
  check(tn_context_create(NULL, &context));
  check(tn_graph_create(context, &graph));
  check(tn_graph_input(graph, "points", TN_F32, dims, 2, &x));
  check(tn_graph_input(graph, "sides", TN_I32, dims, 1, &pair[1]));
  for (int i = 0; i < LAYERS; i++) {
    x = linear(graph, i, x, width[i], width[i + 1]);
    if (i + 1 < LAYERS) check(tn_graph_add(graph, "relu", NULL, 0, &x, 1, &x, 1, NULL));
  }
  check(tn_graph_output(graph, "logits", x));
  pair[0] = x;
  check(tn_graph_add(graph, "cross_entropy", &mean, 1, pair, 2, &loss, 1, NULL));

  /* The session: its memory is known before it is made. What is 0 takes its default. */
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.lr = 0.01f;
  options.schedule = TN_SCHEDULE_LINEAR;
  options.total_steps = STEPS;
  plan.struct_size = sizeof plan;
  check(tn_plan_graph(graph, loss, &options, &plan));
  printf("%d nodes, %d bytes at most\n", (int)plan.nodes, (int)plan.planned_peak_bytes);
  check(tn_session_create(graph, loss, &options, &session));
  tn_graph_destroy(graph);

  report.struct_size = sizeof report;
  for (int step = 1; step <= STEPS; step++) {
    write_batch(session, sides);
    check(tn_session_step(session, NULL, &report));
    if (step == 1) first = report.loss;
    if (step == 1 || step % 50 == 0) printf("step %3d  loss %.4f\n", step, report.loss);
  }

  write_batch(session, sides);
  check(tn_session_evaluate(session, NULL, &unseen));
  check(tn_session_read(session, "logits", logits, sizeof logits));
  for (int i = 0; i < BATCH; i++) right += (logits[i][1] > logits[i][0]) == sides[i];
  printf("unseen    loss %.4f, %d of %d right\n", unseen, right, BATCH);

  tn_session_destroy(session);
  tn_context_destroy(context);
  return report.loss < 0.5f * first && right * 10 >= BATCH * 9 ? 0 : 1;
}
