/*
 * Bad files and bad options of models, and bad checkpoints:
 *
 *   hostile_files SCRATCH MODEL [GGUF]
 *
 * SCRATCH is a folder to write to, MODEL a folder with a small model in it, GGUF a real model file,
 * of which beginnings are tried.
 */
#include "check.h"

#include <math.h>

#define ARGUMENT TN_ERROR_ARGUMENT
#define SHAPE TN_ERROR_SHAPE
#define FORMAT TN_ERROR_FORMAT
#define COUNT(array) (sizeof(array) / sizeof *(array))

static const char *scratch;
static tn_model *model;

/* A path in the scratch folder; lives until the next call but three. */
static const char *path(const char *name) {
  static char texts[4][512];
  static int next;
  char *text = texts[next++ % 4];
  snprintf(text, sizeof texts[0], "%s/%s", scratch, name);
  return text;
}

static const char *write_file(const char *name, const void *bytes, size_t size) {
  FILE *file = fopen(path(name), "wb");
  if (file == NULL || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) {
    printf("%s cannot be written\n", path(name));
    exit(1);
  }
  return path(name);
}

/* At most `most` bytes of a file, to be freed. */
static char *read_file(const char *name, size_t most, size_t *size) {
  FILE *file = fopen(name, "rb");
  char *bytes = (char *)malloc(most);
  if (file == NULL || bytes == NULL) {
    printf("%s cannot be read\n", name);
    exit(1);
  }
  *size = fread(bytes, 1, most, file);
  fclose(file);
  return bytes;
}

/* Loading must fail; why it must is the caller's to know. */
static void no_model(const char *where, int line) {
  tn_status status;
  prepare();
  status = tn_model_load(cx, where, &out.model);
  refused(status == TN_ERROR_IO ? TN_ERROR_IO : FORMAT, status, where, line);
}

static void model_files(const char *gguf) {
  /* Little-endian: version, tensors, entries, then a key of 2^62 bytes. */
  static const char head[] = "GGUF\3\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x40";
  char huge[64];
  REFUSED_BARE(tn_model_load(NULL, scratch, &out.model));
  REFUSED(ARGUMENT, tn_model_load(cx, scratch, NULL));
  REFUSED(ARGUMENT, tn_model_load(cx, NULL, &out.model));
  REFUSED(ARGUMENT, tn_model_load(cx, BROKEN, &out.model));
  REFUSED(TN_ERROR_IO, tn_model_load(cx, "", &out.model));
  REFUSED(TN_ERROR_IO, tn_model_load(cx, path("absent.gguf"), &out.model));
  REFUSED(TN_ERROR_IO, tn_model_load(cx, path("absent/model.gguf"), &out.model));
  REFUSED(TN_ERROR_IO, tn_model_load(cx, scratch, &out.model));
  tn_model_destroy(NULL);
  for (size_t size = 0; size < sizeof head; size++) no_model(write_file("bad.gguf", head, size), __LINE__);
  memset(huge, 0xff, sizeof huge);
  memcpy(huge, head, 8);
  no_model(write_file("bad.gguf", huge, sizeof huge), __LINE__);
  if (gguf != NULL) {
    size_t size, tried = 0;
    char *bytes = read_file(gguf, 4 << 20, &size);
    for (size_t cut = 1; cut < size; cut += 1 + cut / 6, tried++)
      no_model(write_file("bad.gguf", bytes, cut), __LINE__);
    /* Whole in front, torn behind. */
    no_model(write_file("bad.gguf", bytes, size), __LINE__);
    EXPECT(tried > 40);
    free(bytes);
  }
}

static tn_model_options defaults(void) {
  tn_model_options options;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.seq = 16;
  return options;
}

static void options(tn_status want, const tn_model_options *how) {
  REFUSED(want, tn_plan_model(model, how, NULL, &out.plan));
  REFUSED(want, tn_session_from_model(model, how, NULL, &out.session));
}

static void model_options(void) {
  const char *targets[] = {"nonsense", "", ",", "q_proj,", "q_proj v_proj"};
  const char *exits[] = {"", "x", "0", "1,", "-1", "3", "1 2", BROKEN, "99999999999999999999"};
  const uint32_t parts[][2] = {{1, 1}, {2, 0}, {0, 3}, {UINT32_MAX, 0}, {1, UINT32_MAX}};
  tn_model_options how = defaults();
  tn_train_options training;
  REFUSED_BARE(tn_plan_model(NULL, &how, NULL, &out.plan));
  REFUSED_BARE(tn_session_from_model(NULL, &how, NULL, &out.session));
  REFUSED(ARGUMENT, tn_plan_model(model, &how, NULL, NULL));
  REFUSED(ARGUMENT, tn_session_from_model(model, &how, NULL, NULL));
  REFUSED_SIZES(how, tn_plan_model(model, &how, NULL, &out.plan));
  REFUSED_SIZES(how, tn_session_from_model(model, &how, NULL, &out.session));
  REFUSED_SIZES(training, tn_plan_model(model, &how, &training, &out.plan));
  REFUSED_SIZES(training, tn_session_from_model(model, &how, &training, &out.session));
  memset(&training, 0, sizeof training);
  training.struct_size = sizeof training;
  training.lr = NAN;
  REFUSED(ARGUMENT, tn_plan_model(model, &how, &training, &out.plan));
  REFUSED(ARGUMENT, tn_session_from_model(model, &how, &training, &out.session));
  training.lr = 0;
  training.memory_budget = 1;
  REFUSED(TN_ERROR_MEMORY, tn_plan_model(model, &how, &training, &out.plan));
  REFUSED(TN_ERROR_MEMORY, tn_session_from_model(model, &how, &training, &out.session));

  how.seq = UINT32_MAX;
  options(ARGUMENT, &how);
  how.seq = 65; /* one more than the model was made for */
  options(ARGUMENT, &how);
  how = defaults();
  how.batch = UINT32_MAX;
  REFUSED(TN_ERROR_MEMORY, tn_session_from_model(model, &how, NULL, &out.session));
  how = defaults();
  for (int32_t code = -1; code < 5; code += 3) {
    how.trains = code;
    options(ARGUMENT, &how);
  }
  how = defaults();
  how.lora_rank = 4097;
  options(ARGUMENT, &how);
  how.lora_rank = UINT32_MAX;
  options(ARGUMENT, &how);
  how = defaults();
  how.lora_alpha = NAN;
  options(ARGUMENT, &how);
  how.lora_alpha = INFINITY;
  options(ARGUMENT, &how);
  how = defaults();
  how.lora_targets = BROKEN;
  options(ARGUMENT, &how);
  for (size_t i = 0; i < COUNT(targets); i++) {
    how.lora_targets = targets[i];
    options(TN_ERROR_NOT_FOUND, &how);
  }
  how = defaults();
  for (size_t i = 0; i < COUNT(exits); i++) {
    how.exits = exits[i];
    options(ARGUMENT, &how);
  }
  how = defaults();
  for (size_t i = 0; i < COUNT(parts); i++) {
    how.first_layer = parts[i][0];
    how.end_layer = parts[i][1];
    options(ARGUMENT, &how);
  }
  how.first_layer = 1;
  how.end_layer = 0;
  how.wire = 99;
  options(ARGUMENT, &how);
  how.wire = TN_I8;
  options(SHAPE, &how);
  how = defaults();
  how.trains = TN_TRAIN_NOTHING; /* a whole model has to */
  options(ARGUMENT, &how);
}

/* The loss is the sum over the exits, each of which is told. */
static void early_exits(void) {
  tn_model_options how = defaults();
  const int32_t batch[16] = {1, 2, 3};
  tn_session *session;
  float loss, early, last;
  how.exits = " 1, 2";
  MUST(tn_session_from_model(model, &how, NULL, &session));
  MUST(tn_session_write(session, "tokens", batch, sizeof batch));
  MUST(tn_session_write(session, "targets", batch, sizeof batch));
  MUST(tn_session_evaluate(session, NULL, &loss));
  MUST(tn_session_read(session, "loss/1", &early, sizeof early));
  MUST(tn_session_read(session, "loss/2", &last, sizeof last));
  EXPECT(early > 0.0f && last > 0.0f && loss == early + last);
  MUST(tn_session_step(session, NULL, NULL));
  tn_session_destroy(session);
}

/* A model's own weights are mapped for reading only. */
static void frozen_weights(void) {
  const tn_model_options how = defaults();
  const int32_t batch[16] = {1, 2, 3};
  tn_session *session;
  tn_parameter p;
  size_t count, trainable;
  float before_loss, after_loss;
  char *bytes;
  MUST(tn_session_from_model(model, &how, NULL, &session));
  MUST(tn_session_write(session, "tokens", batch, sizeof batch));
  MUST(tn_session_write(session, "targets", batch, sizeof batch));
  MUST(tn_session_evaluate(session, NULL, &before_loss));
  MUST(tn_session_parameter_count(session, &count, &trainable));
  EXPECT(trainable > 0 && trainable < count);
  p.struct_size = sizeof p;
  for (size_t i = trainable; i < count; i++) {
    MUST(tn_session_parameter(session, i, &p));
    bytes = (char *)calloc(1, (size_t)p.size);
    REFUSED(ARGUMENT, tn_session_write(session, p.name, bytes, (size_t)p.size));
    free(bytes);
  }
  MUST(tn_session_evaluate(session, NULL, &after_loss));
  EXPECT(memcmp(&before_loss, &after_loss, sizeof before_loss) == 0);
  tn_session_destroy(session);
}

/* Puts a text in place of another of the same length. */
static void replace(char *bytes, size_t size, const char *from, const char *to) {
  for (size_t i = 0; i + strlen(from) <= size; i++)
    if (memcmp(bytes + i, from, strlen(from)) == 0) {
      memcpy(bytes + i, to, strlen(to));
      return;
    }
  printf("no %s in the checkpoint\n", from);
  exit(1);
}

static void checkpoints(void) {
  float data[256];
  network good, twin, other;
  tn_train_options sgd;
  tn_report report;
  size_t size;
  char *bytes;
  const char *note;
  for (size_t i = 0; i < COUNT(data); i++) data[i] = noise();
  memset(&sgd, 0, sizeof sgd);
  sgd.struct_size = sizeof sgd;
  sgd.optimizer = TN_SGD;
  good = make_network(data, NULL);
  twin = make_network(data, NULL);
  other = make_network(data, &sgd);
  for (int i = 0; i < 3; i++) same_twins(good, twin, __LINE__);

  REFUSED_BARE(tn_session_save(NULL, path("x"), NULL));
  REFUSED(ARGUMENT, tn_session_save(good.session, NULL, NULL));
  REFUSED(ARGUMENT, tn_session_save(good.session, BROKEN, NULL));
  REFUSED(ARGUMENT, tn_session_save(good.session, path("x"), BROKEN));
  REFUSED(TN_ERROR_IO, tn_session_save(good.session, "", NULL));
  REFUSED(TN_ERROR_IO, tn_session_save(good.session, scratch, NULL));
  REFUSED(TN_ERROR_IO, tn_session_save(good.session, path(".."), NULL));
  REFUSED(TN_ERROR_IO, tn_session_save(good.session, path("absent/x"), NULL));
  REFUSED_BARE(tn_session_load(NULL, path("x"), &out.text));
  REFUSED(ARGUMENT, tn_session_load(good.session, NULL, &out.text));
  REFUSED(ARGUMENT, tn_session_load(good.session, BROKEN, &out.text));
  REFUSED(TN_ERROR_IO, tn_session_load(good.session, "", &out.text));
  REFUSED(TN_ERROR_IO, tn_session_load(good.session, scratch, &out.text));
  REFUSED(TN_ERROR_IO, tn_session_load(good.session, path("absent"), &out.text));
  same_twins(good, twin, __LINE__);

  MUST(tn_session_save(good.session, path("good"), "\xc3\xa4 \" \\ \n"));
  REFUSED(FORMAT, tn_session_load(other.session, path("good"), &out.text));
  MUST(tn_session_save(other.session, path("other"), NULL));
  REFUSED(FORMAT, tn_session_load(good.session, path("other"), &out.text));
  bytes = read_file(path("good"), 1 << 20, &size);
  for (size_t cut = 0; cut < size; cut += 1 + cut / 16)
    REFUSED(FORMAT, tn_session_load(good.session, write_file("bad", bytes, cut), &out.text));
  for (size_t at = 0; at < size; at += 1 + size / 100) {
    bytes[at] ^= 0x10;
    prepare();
    /* A flipped bit of the header may leave it whole; of the content, none may. */
    if (tn_session_load(good.session, write_file("bad", bytes, size), &out.text) != TN_OK)
      EXPECT(memcmp(&out, &before, sizeof out) == 0);
    else
      EXPECT(at < size / 2);
    bytes[at] ^= 0x10;
  }
  same_twins(good, twin, __LINE__);
  replace(bytes, size, "\"tenon.step\":\"4\"", "\"tenon.step\":\"x\"");
  REFUSED(FORMAT, tn_session_load(good.session, write_file("bad", bytes, size), &out.text));
  replace(bytes, size, "\"tenon.step\":\"x\"", "\"tenon.step\":\"-\"");
  REFUSED(FORMAT, tn_session_load(good.session, write_file("bad", bytes, size), &out.text));
  free(bytes);
  same_twins(good, twin, __LINE__);

  /* What was saved comes back, words and all. */
  MUST(tn_session_load(good.session, path("good"), &note));
  EXPECT(strcmp(note, "\xc3\xa4 \" \\ \n") == 0);
  MUST(tn_session_load(twin.session, path("good"), NULL));
  same_twins(good, twin, __LINE__);
  report.struct_size = sizeof report;
  MUST(tn_session_step(good.session, NULL, &report));
  EXPECT(report.step == 6);
  free_network(good);
  free_network(twin);
  free_network(other);
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: %s SCRATCH MODEL [GGUF]\n", argv[0]);
    return 2;
  }
  scratch = argv[1];
  begin();
  MUST(tn_model_load(cx, argv[2], &model));
  model_files(argc > 3 ? argv[3] : NULL);
  model_options();
  early_exits();
  frozen_weights();
  checkpoints();
  tn_model_destroy(model);
  return end();
}
