/*
 * Loads the library by hand, trains with it and unloads it, many times over:
 *
 *   dlopen LIBRARY
 *
 * Nothing of it may stay: no mapping, no thread, no memory, and no thread-local value of the threads
 * that called in, for whose destructors the system would keep it mapped. By turns the work is done
 * by the main thread, by one that ends before the library is unloaded, and by one that lives on.
 */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include <dirent.h>
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tenon.h>
#include <unistd.h>

enum {
  SIDE = 256,
  CYCLES = 64,
  WARM = 8, /* cycles in which the system takes what it keeps for itself */
  THREADS = 4
};

static void *library;

/* The address of a function. C has no cast from an object's pointer to a function's; POSIX has its
 * bits the same. */
static void find(const char *name, void *to) {
  void *address = dlsym(library, name);
  memcpy(to, &address, sizeof address);
}

#define FIND(name) find(#name, (void *)&name##_)

/* Trains a little; gives the last loss, or -1 where something failed. */
static float train(void) {
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
  tn_status (*tn_update_accumulate_)(tn_context *, float, const float *, float *, size_t);
  size_t (*tn_error_message_)(const tn_context *, char *, size_t);
  uint32_t (*tn_version_)(void);
  const int64_t dims[2] = {SIDE, SIDE};
  static float data[SIDE * SIDE], sum[SIDE * SIDE];
  char why[64];
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
  FIND(tn_update_accumulate);
  FIND(tn_error_message);
  FIND(tn_version);
  for (int i = 0; i < SIDE * SIDE; i++) data[i] = (float)(i % 7) * 0.01f;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.threads = THREADS; /* workers, which must be gone before the code they run */
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
  bad |= tn_update_accumulate_(context, 1, data, sum, SIDE * SIDE);
  bad |= tn_graph_add_(graph, "no such op", NULL, 0, pair, 2, &value, 1, NULL) == TN_OK;
  bad |= tn_error_message_(context, why, sizeof why) <= 1;
  tn_session_destroy_(session);
  tn_graph_destroy_(graph);
  tn_context_destroy_(context);
  return bad ? -1.0f : report.loss;
}

/* A thread that works, says so, and ends when it may. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int worked, may_end;

static void *work(void *loss) {
  *(float *)loss = train();
  pthread_mutex_lock(&mutex);
  worked = 1;
  pthread_cond_broadcast(&changed);
  while (!may_end) pthread_cond_wait(&changed, &mutex);
  pthread_mutex_unlock(&mutex);
  return NULL;
}

static void let_end(pthread_t thread) {
  pthread_mutex_lock(&mutex);
  may_end = 1;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mutex);
  pthread_join(thread, NULL);
}

/* Lines of the process's mappings that name the library. */
static int mappings(const char *name) {
  char line[4096];
  int count = 0;
  FILE *maps = fopen("/proc/self/maps", "r");
  if (maps == NULL) return -1;
  while (fgets(line, sizeof line, maps) != NULL) count += strstr(line, name) != NULL;
  fclose(maps);
  return count;
}

static int threads(void) {
  int count = 0;
  DIR *tasks = opendir("/proc/self/task");
  if (tasks == NULL) return -1;
  for (struct dirent *task; (task = readdir(tasks)) != NULL;) count += task->d_name[0] != '.';
  closedir(tasks);
  return count;
}

/* Bytes of all mappings, and of what malloc gave and was not given back. */
static void memory(long *mapped, long *allocated) {
  long pages;
  FILE *statm = fopen("/proc/self/statm", "r");
  if (statm == NULL || fscanf(statm, "%ld", &pages) != 1) exit(1);
  fclose(statm);
  *mapped = pages * sysconf(_SC_PAGESIZE);
  *allocated = (long)mallinfo2().uordblks;
}

static void *nothing(void *unused) { return unused; }

int main(int argc, char **argv) {
  long before[2] = {0, 0}, after[2];
  int own;
  pthread_t thread;
  float first = 0, loss;
  if (argc < 2) {
    fprintf(stderr, "usage: %s LIBRARY\n", argv[0]);
    return 2;
  }
  /* A sanitizer has a thread of its own, once there is another. */
  if (pthread_create(&thread, NULL, nothing, NULL) != 0) return 1;
  pthread_join(thread, NULL);
  own = threads();
  for (int cycle = 0; cycle < CYCLES; cycle++) {
    const int by_thread = cycle % 3, lives_on = cycle % 3 == 2;
    library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
      printf("%s\n", dlerror());
      return 1;
    }
    if (by_thread) {
      worked = may_end = 0;
      if (pthread_create(&thread, NULL, work, &loss) != 0) return 1;
      pthread_mutex_lock(&mutex);
      while (!worked) pthread_cond_wait(&changed, &mutex);
      pthread_mutex_unlock(&mutex);
      if (!lives_on) let_end(thread);
    } else {
      loss = train();
    }
    if (cycle == 0) first = loss;
    if (loss < 0 || memcmp(&loss, &first, sizeof loss) != 0) {
      printf("cycle %d: loss %.6f, not %.6f\n", cycle, loss, first);
      return 1;
    }
    if (mappings("libtenon") < 1 || dlclose(library) != 0) return 1;
    if (mappings("libtenon") != 0 || threads() != own + lives_on) {
      printf("cycle %d: %d mappings and %d threads stay\n", cycle, mappings("libtenon"),
             threads() - own - lives_on);
      return 1;
    }
    if (lives_on) let_end(thread);
    if (cycle == WARM) memory(&before[0], &before[1]);
  }
  memory(&after[0], &after[1]);
  printf("loss %.6f, unloaded %d times, %ld bytes of mappings and %ld of heap more in the last %d\n",
         first, CYCLES, after[0] - before[0], after[1] - before[1], CYCLES - WARM - 1);
  return 0;
}
