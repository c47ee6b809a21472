/*
 * Fine-tunes a language model on this device: trains LoRA adapters on the 4-bit weights of a GGUF
 * file, which stay mapped as they are.
 *
 *   cargo build --profile dist -p tenon
 *   cc -std=c99 -Iffi/include ffi/examples/finetune_lora.c -Ltarget/dist -ltenon -o finetune
 *   LD_LIBRARY_PATH=target/dist ./finetune MODEL.gguf [STEPS]
 *
 * There is no tokenizer in the library: the text below is token ids of SmolLM2. The adapters are
 * saved as adapters.safetensors in the working directory. Exits with 1 if the loss did not fall, or
 * if the saved adapters do not give it again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tenon.h>

enum { SEQ = 128 };

/* "The sun rises in the east and sets in the west. Every morning, people wake up, ..." */
static const int32_t text[SEQ] = {
    504, 2388, 13685, 281, 260, 6251, 284, 5208, 281, 260, 5846, 30, 5081, 5738, 28, 701, 11368,
    614, 28, 457, 13848, 28, 284, 685, 288, 746, 355, 1125, 30, 4643, 36411, 418, 582, 3822, 5027,
    20590, 418, 3426, 1106, 30, 378, 3575, 282, 4649, 314, 7042, 28, 284, 260, 3575, 282, 7158,
    314, 7268, 30, 533, 4339, 260, 2009, 359, 1890, 284, 260, 16573, 359, 986, 28, 979, 281, 4018,
    260, 2009, 359, 986, 284, 260, 16573, 359, 1890, 30, 330, 2767, 314, 1129, 1217, 260, 1450,
    3289, 282, 253, 1205, 1036, 30, 3027, 1122, 702, 288, 1238, 13159, 281, 260, 5949, 990, 1125,
    30, 378, 25359, 314, 260, 45595, 282, 260, 1297, 30, 378, 1797, 1918, 8275, 624, 6967, 281,
    216, 33, 39, 39, 38, 30, 198};

static tn_context *context;

/* Ends the program with the reason if a call failed. */
static void check(tn_status status) {
  char why[512];
  if (status == TN_OK) return;
  tn_error_message(context, why, sizeof why);
  fprintf(stderr, "%s: %s\n", tn_status_text(status), why);
  exit(1);
}

/* Shows a step as eight dots. Anything but 0 would stop the step, as an app may on low battery. */
static int32_t progress(void *user, uint64_t done, uint64_t total) {
  int *dots = (int *)user;
  for (; (uint64_t)*dots * total <= done * 8; ++*dots) putchar('.');
  fflush(stdout);
  return 0;
}

/* A session of the model with the text in it. The token that follows each is its target; the last
 * has none. */
static tn_session *make_session(tn_model *model, const tn_model_options *how,
                                const tn_train_options *training) {
  int32_t targets[SEQ];
  tn_session *session;
  memcpy(targets, text + 1, sizeof targets - sizeof targets[0]);
  targets[SEQ - 1] = -100;
  check(tn_session_from_model(model, how, training, &session));
  check(tn_session_write(session, "tokens", text, sizeof text));
  check(tn_session_write(session, "targets", targets, sizeof targets));
  return session;
}

/* Takes the adapters out: all as one buffer, as a federated client sends them, and the first by
 * its name. Gives whether the two agree. */
static int take_out(tn_session *session) {
  tn_parameter first;
  size_t count, size;
  void *all, *one;
  int same = 0;
  first.struct_size = sizeof first;
  check(tn_session_parameter(session, 0, &first));
  check(tn_session_parameter_count(session, NULL, &count));
  check(tn_session_trainable_size(session, &size));
  all = malloc(size);
  one = malloc((size_t)first.size);
  if (all != NULL && one != NULL) {
    check(tn_session_get_trainable(session, all, size));
    check(tn_session_read(session, first.name, one, (size_t)first.size));
    same = memcmp(all, one, (size_t)first.size) == 0;
  }
  printf("%d tensors of adapters, %.1f MB; first is %s [%d, %d]\n", (int)count, (double)size / 1e6,
         first.name, (int)first.dims[0], (int)first.dims[1]);
  free(all);
  free(one);
  return same;
}

int main(int argc, char **argv) {
  static const char path[] = "adapters.safetensors";
  const int steps = argc > 2 ? atoi(argv[2]) : 8;
  tn_model *model;
  tn_session *session;
  tn_model_options how;
  tn_train_options training;
  tn_run_options run;
  tn_plan plan;
  tn_report report;
  const char *note;
  float before, after, loaded;
  int dots, good;
  if (argc < 2 || steps < 1) {
    fprintf(stderr, "usage: %s MODEL.gguf [STEPS]\n", argv[0]);
    return 2;
  }

  memset(&how, 0, sizeof how); /* what is 0 takes its default */
  how.struct_size = sizeof how;
  how.trains = TN_TRAIN_LORA;
  how.seq = SEQ;
  how.lora_rank = 8;
  how.lora_targets = "q_proj,v_proj";
  memset(&training, 0, sizeof training);
  training.struct_size = sizeof training;
  training.lr = 2e-3f;
  training.clip_norm = 1.0f;

  /* What it will take is known before any of it is taken. */
  check(tn_context_create(NULL, &context));
  check(tn_model_load(context, argv[1], &model));
  plan.struct_size = sizeof plan;
  check(tn_plan_model(model, &how, &training, &plan));
  printf("planned peak %.1f MB beside the mapped weights\n", (double)plan.planned_peak_bytes / 1e6);

  session = make_session(model, &how, &training);
  check(tn_session_evaluate(session, NULL, &before));
  memset(&run, 0, sizeof run);
  run.struct_size = sizeof run;
  run.progress = progress;
  run.progress_user = &dots;
  report.struct_size = sizeof report;
  for (int step = 0; step < steps; step++) {
    dots = 0;
    check(tn_session_step(session, &run, &report));
    printf(" step %d  loss %.4f  gradient %.2f\n", (int)report.step, report.loss, report.grad_norm);
  }
  check(tn_session_evaluate(session, NULL, &after));
  good = take_out(session);
  check(tn_session_save(session, path, "the first text"));
  tn_session_destroy(session);

  /* Another day: the same model and options, and the adapters from the file. */
  session = make_session(model, &how, &training);
  check(tn_session_load(session, path, &note));
  check(tn_session_evaluate(session, NULL, &loaded));
  printf("loss before %.4f, after %.4f, loaded (\"%s\") %.4f\n", before, after, note, loaded);

  tn_session_destroy(session);
  tn_model_destroy(model);
  tn_context_destroy(context);
  return good && after < before && loaded == after ? 0 : 1;
}
