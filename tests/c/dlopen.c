/*
 * Loads the library by hand, trains with it, unloads it, and does so again:
 *
 *   dlopen LIBRARY
 *
 * Nothing of it may be left behind that a second load would stumble over: threads, callbacks,
 * memory that is gone. The work is done in a thread that ends: while one lives that called in, the
 * system keeps a library with thread-local values loaded.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <tenon.h>

enum { SIDE = 512 };

static void *library;

/* The address of a function. C has no cast from an object's pointer to a function's; POSIX has its
 * bits the same. */
static void find(const char *name, void *to) {
  void *address = dlsym(library, name);
  memcpy(to, &address, sizeof address);
}

#define FIND(name) find(#name, (void *)&name##_)

/* Trains a little; writes the last loss, or leaves it where something failed. */
static void *work(void *loss) {
  tn_status (*tn_context_create_)(const tn_context_options *, tn_context **);
  void (*tn_context_destroy_)(tn_context *);
  tn_status (*tn_graph_create_)(tn_context *, tn_graph **);
  void (*tn_graph_destroy_)(tn_graph *);
  tn_status (*tn_graph_parameter_)(tn_graph *, const char *, tn_dtype, const int64_t *, size_t,
                                   const void *, size_t, int32_t, tn_value *);
  tn_status (*tn_graph_add_)(tn_graph *, const char *, const tn_attr *, size_t, const tn_value *,
                             size_t, tn_value *, size_t, size_t *);
  tn_status (*tn_session_create_)(tn_graph *, tn_value, const tn_train_options *, tn_session **);
  void (*tn_session_destroy_)(tn_session *);
  tn_status (*tn_session_step_)(tn_session *, const tn_run_options *, tn_report *);
  uint32_t (*tn_version_)(void);
  const int64_t dims[2] = {SIDE, SIDE};
  static float data[SIDE * SIDE];
  tn_context *context;
  tn_graph *graph;
  tn_session *session;
  tn_value value, pair[2];
  tn_report report;
  tn_context_options options;
  int bad = 0;
  FIND(tn_context_create);
  FIND(tn_context_destroy);
  FIND(tn_graph_create);
  FIND(tn_graph_destroy);
  FIND(tn_graph_parameter);
  FIND(tn_graph_add);
  FIND(tn_session_create);
  FIND(tn_session_destroy);
  FIND(tn_session_step);
  FIND(tn_version);
  for (int i = 0; i < SIDE * SIDE; i++) data[i] = (float)(i % 7) * 0.01f;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.threads = 4; /* workers, which must be gone before the code they run */
  report.struct_size = sizeof report;
  bad |= tn_version_() != TN_VERSION;
  bad |= tn_context_create_(&options, &context);
  bad |= tn_graph_create_(context, &graph);
  bad |= tn_graph_parameter_(graph, "w", TN_F32, dims, 2, data, sizeof data, 1, &value);
  pair[0] = pair[1] = value;
  bad |= tn_graph_add_(graph, "matmul", NULL, 0, pair, 2, &value, 1, NULL);
  bad |= tn_graph_add_(graph, "reduce_mean", NULL, 0, &value, 1, &value, 1, NULL);
  bad |= tn_session_create_(graph, value, NULL, &session);
  for (int step = 0; step < 3; step++) bad |= tn_session_step_(session, NULL, &report);
  tn_session_destroy_(session);
  tn_graph_destroy_(graph);
  tn_context_destroy_(context);
  if (!bad) *(float *)loss = report.loss;
  return NULL;
}

/* Loads, works, unloads. Gives whether all went well and nothing stayed. */
static int once(const char *path, float *loss) {
  pthread_t thread;
  library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    printf("%s\n", dlerror());
    return 0;
  }
  if (pthread_create(&thread, NULL, work, loss) != 0 || pthread_join(thread, NULL) != 0) return 0;
  if (dlclose(library) != 0) return 0;
  library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
  printf("loss %.6f, %s\n", *loss, library == NULL ? "unloaded" : "still loaded");
  return library == NULL;
}

int main(int argc, char **argv) {
  float loss[2] = {0, 1};
  if (argc < 2) {
    fprintf(stderr, "usage: %s LIBRARY\n", argv[0]);
    return 2;
  }
  for (int i = 0; i < 2; i++)
    if (!once(argv[1], &loss[i])) return 1;
  return memcmp(&loss[0], &loss[1], sizeof loss[0]) != 0;
}
