/*
 * Inputs that another thread stages while steps run, beside a twin whose inputs are written between
 * steps: the same bits; and what is refused.
 */
#include "check.h"

#include <pthread.h>
#include <semaphore.h>

enum { BATCHES = 200 };

static float data[256];
static int32_t words[BATCHES][ROWS], targets[BATCHES][ROWS];
static network staged, written;
static sem_t is_staged, is_taken;
static int within;

/* Brings each batch as soon as the one before is taken: while its step runs. */
static void *bring(void *unused) {
  (void)unused;
  for (int i = 0; i < BATCHES; i++) {
    tn_status status = tn_session_stage(staged.session, "words", words[i], sizeof words[i]);
    if (status == TN_OK)
      status = tn_session_stage(staged.session, "targets", targets[i], sizeof targets[i]);
    if (status != TN_OK) exit(2);
    sem_post(&is_staged);
    sem_wait(&is_taken);
  }
  return NULL;
}

/* Stages from within a step, which does not see it. */
static int32_t stage_within(void *user, uint64_t done, uint64_t total) {
  (void)user, (void)total;
  if (done == 1)
    within = tn_session_stage(staged.session, "words", words[1], sizeof words[1]) == TN_OK;
  EXPECT(tn_session_take(staged.session) == TN_ERROR_ARGUMENT);
  return 0;
}

static void step_both(const tn_run_options *run, int i) {
  tn_report left, right;
  memset(&left, 0, sizeof left);
  left.struct_size = sizeof left;
  right = left;
  MUST(tn_session_write(written.session, "words", words[i], sizeof words[i]));
  MUST(tn_session_write(written.session, "targets", targets[i], sizeof targets[i]));
  MUST(tn_session_step(staged.session, run, &left));
  MUST(tn_session_step(written.session, NULL, &right));
  EXPECT(memcmp(&left, &right, sizeof left) == 0);
  EXPECT(same_bytes(staged, written, "table", WORDS * WIDTH * 4));
}

static void refuse(void) {
  tn_session *s = staged.session;
  char bytes[64] = {0};
  REFUSED(TN_ERROR_ARGUMENT, tn_session_take(s));
  REFUSED_BARE(tn_session_take(NULL));
  REFUSED_BARE(tn_session_stage(NULL, "words", bytes, 16));
  REFUSED(TN_ERROR_ARGUMENT, tn_session_stage(s, NULL, bytes, 16));
  REFUSED(TN_ERROR_ARGUMENT, tn_session_stage(s, BROKEN, bytes, 16));
  REFUSED(TN_ERROR_ARGUMENT, tn_session_stage(s, "words", NULL, 16));
  REFUSED(TN_ERROR_ARGUMENT, tn_session_stage(s, "words", bytes, 15));
  REFUSED(TN_ERROR_ARGUMENT, tn_session_stage(s, "words", bytes, 17));
  REFUSED(TN_ERROR_ARGUMENT, tn_session_stage(s, "words", bytes, SIZE_MAX));
  REFUSED(TN_ERROR_NOT_FOUND, tn_session_stage(s, "", bytes, 16));
  REFUSED(TN_ERROR_NOT_FOUND, tn_session_stage(s, "table", bytes, 16));
  REFUSED(TN_ERROR_NOT_FOUND, tn_session_stage(s, "mean", bytes, 16));
  REFUSED(TN_ERROR_NOT_FOUND, tn_session_stage(s, "train.lr", bytes, 4));
  /* Sessions without second buffers. */
  REFUSED(TN_ERROR_ARGUMENT, tn_session_stage(written.session, "words", bytes, 16));
  REFUSED(TN_ERROR_ARGUMENT, tn_session_take(written.session));
  /* No step runs on what was only staged. */
  MUST(tn_session_stage(s, "words", words[0], sizeof words[0]));
  MUST(tn_session_stage(s, "targets", targets[0], sizeof targets[0]));
  REFUSED(TN_ERROR_ARGUMENT, tn_session_step(s, NULL, NULL));
}

int main(void) {
  tn_train_options options;
  tn_run_options run;
  tn_plan plans[2];
  pthread_t thread;
  for (size_t i = 0; i < sizeof data / sizeof *data; i++) data[i] = 0.3f * noise();
  for (int i = 0; i < BATCHES * ROWS; i++) {
    words[i / ROWS][i % ROWS] = (int32_t)((noise() + 1.0f) * 0.499f * WORDS);
    targets[i / ROWS][i % ROWS] = (int32_t)((noise() + 1.0f) * 0.499f * CLASSES);
  }
  begin();
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  written = make_network(data, &options);
  options.stage_inputs = 1;
  staged = make_network(data, &options);
  refuse();

  /* The plan counts the second buffers. */
  memset(plans, 0, sizeof plans);
  plans[0].struct_size = plans[1].struct_size = sizeof plans[0];
  MUST(tn_session_plan(written.session, &plans[0]));
  MUST(tn_session_plan(staged.session, &plans[1]));
  EXPECT(plans[1].owned_bytes - plans[0].owned_bytes == sizeof words[0] + sizeof targets[0]);

  if (sem_init(&is_staged, 0, 0) != 0 || sem_init(&is_taken, 0, 0) != 0) return 2;
  if (pthread_create(&thread, NULL, bring, NULL) != 0) return 2;
  for (int i = 0; i < BATCHES; i++) {
    sem_wait(&is_staged);
    MUST(tn_session_take(staged.session));
    sem_post(&is_taken);
    step_both(NULL, i);
    /* Planning anew forgets nothing that is staged. */
    if (i % 50 == 0) MUST(tn_session_set_memory_budget(staged.session, 0));
  }
  pthread_join(thread, NULL);

  /* Of what is staged twice the last counts; what is not staged stays. */
  MUST(tn_session_stage(staged.session, "words", words[1], sizeof words[1]));
  MUST(tn_session_stage(staged.session, "words", words[0], sizeof words[0]));
  MUST(tn_session_take(staged.session));
  memcpy(targets[0], targets[BATCHES - 1], sizeof targets[0]);
  memset(&run, 0, sizeof run);
  run.struct_size = sizeof run;
  run.progress = stage_within;
  step_both(&run, 0);
  EXPECT(within);
  MUST(tn_session_take(staged.session));
  memcpy(targets[1], targets[0], sizeof targets[1]);
  step_both(NULL, 1);

  free_network(staged);
  free_network(written);
  return end();
}
