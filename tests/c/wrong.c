/*
 * Breaks a rule of the header, for sanitizers to tell: one that said nothing here would be asleep.
 *
 *   wrong race|freed|overflow|leak
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tenon.h>

enum { SIDE = 64 };

static tn_context *context;
static tn_session *session, *other; /* of one graph, whose parameters they share */

static void make(void) {
  const int64_t dims[2] = {SIDE, SIDE};
  tn_graph *graph;
  tn_value value;
  if (tn_context_create(NULL, &context) != TN_OK || tn_graph_create(context, &graph) != TN_OK ||
      tn_graph_parameter(graph, "w", TN_F32, dims, 2, NULL, 0, 1, &value) != TN_OK ||
      tn_graph_add(graph, "square", NULL, 0, &value, 1, &value, 1, NULL) != TN_OK ||
      tn_graph_add(graph, "reduce_sum", NULL, 0, &value, 1, &value, 1, NULL) != TN_OK ||
      tn_session_create(graph, value, NULL, &session) != TN_OK ||
      tn_session_create(graph, value, NULL, &other) != TN_OK)
    exit(1);
  tn_graph_destroy(graph);
}

static void *write_parameter(void *which) {
  static const float zeros[SIDE * SIDE] = {0};
  for (int i = 0; i < 100; i++) tn_session_write((tn_session *)which, "w", zeros, sizeof zeros);
  return NULL;
}

int main(int argc, char **argv) {
  const char *how = argc < 2 ? "" : argv[1];
  float *data = (float *)malloc(SIDE * sizeof *data);
  pthread_t threads[2];
  make();
  if (strcmp(how, "race") == 0) { /* in two threads at once */
    for (int i = 0; i < 2; i++)
      pthread_create(&threads[i], NULL, write_parameter, i == 0 ? session : other);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  } else if (strcmp(how, "freed") == 0) { /* a handle that was given back */
    tn_session_destroy(session);
    tn_session_step(session, NULL, NULL);
    session = NULL;
  } else if (strcmp(how, "overflow") == 0) { /* fewer bytes than are said to be there */
    memset(data, 0, SIDE * sizeof *data);
    tn_session_write(session, "w", data, SIDE * SIDE * sizeof *data);
  } else if (strcmp(how, "leak") == 0) { /* handles that are never given back */
    session = NULL;
    context = NULL;
  }
  free(data);
  tn_session_destroy(session);
  tn_session_destroy(other);
  tn_context_destroy(context);
  printf("%s\n", how);
  return 0;
}
