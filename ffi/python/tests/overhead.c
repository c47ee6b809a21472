/* Steps of a tiny network, for overhead.py: prints the best round's microseconds a step. */
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tenon.h>
#include <time.h>

enum { BATCH = 4, ROUNDS = 20, STEPS = 2000 };

#define CHECK(call) \
  if ((call) != TN_OK) exit(1)

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

int main(void) {
  const int64_t dims[2] = {BATCH, 2}, shape[2] = {3, 2};
  const tn_attr mean = tn_attr_string("reduction", "mean");
  float x[BATCH][2] = {{0}}, weight[6] = {0};
  int32_t y[BATCH] = {0};
  tn_context *context;
  tn_graph *graph;
  tn_session *session;
  tn_value in[2], pair[2];
  tn_context_options options;
  tn_train_options training;
  tn_report report;
  double best = 1e9;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.threads = 1;
  memset(&training, 0, sizeof training);
  training.struct_size = sizeof training;
  training.optimizer = TN_SGD;
  CHECK(tn_context_create(&options, &context));
  CHECK(tn_graph_create(context, &graph));
  CHECK(tn_graph_input(graph, "x", TN_F32, dims, 2, &in[0]));
  CHECK(tn_graph_input(graph, "y", TN_I32, dims, 1, &pair[1]));
  CHECK(tn_graph_parameter(graph, "w", TN_F32, shape, 2, weight, sizeof weight, 1, &in[1]));
  CHECK(tn_graph_add(graph, "linear", NULL, 0, in, 2, &pair[0], 1, NULL));
  CHECK(tn_graph_add(graph, "cross_entropy", &mean, 1, pair, 2, &pair[0], 1, NULL));
  CHECK(tn_session_create(graph, pair[0], &training, &session));
  report.struct_size = sizeof report;
  for (int round = 0; round < ROUNDS; round++) {
    const double start = now();
    for (int step = 0; step < STEPS; step++) {
      CHECK(tn_session_write(session, "x", x, sizeof x));
      CHECK(tn_session_write(session, "y", y, sizeof y));
      CHECK(tn_session_step(session, NULL, &report));
    }
    if ((now() - start) / STEPS < best) best = (now() - start) / STEPS;
  }
  printf("%.3f\n", best);
  return 0;
}
