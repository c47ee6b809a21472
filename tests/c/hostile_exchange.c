/*
 * What federated clients and servers exchange: a round of three clients against plain sums, and bad
 * input of every kind. As in hostile.c, a bad call must be refused with the right status and a
 * message, and change nothing.
 */
#include "check.h"

#include <math.h>

#define ARGUMENT TN_ERROR_ARGUMENT
#define COUNT(array) (sizeof(array) / sizeof *(array))

enum { CLIENTS = 3, LONG = 3000, ROOM = 16384 };

static float data[256], x[CLIENTS][LONG], sum[LONG], weights[LONG], residual[LONG];
static uint32_t words[CLIENTS][LONG], total[LONG];
static unsigned char bytes[ROOM];

static tn_compression compression(uint64_t keep, uint32_t bits) {
  tn_compression how;
  memset(&how, 0, sizeof how);
  how.struct_size = sizeof how;
  how.keep = keep;
  how.bits = bits;
  how.seed = 5;
  return how;
}

/* Sets of parameters, which are read, written and moved whole. */
static void sets(network n) {
  const tn_set wrong[] = {-1, 3, INT32_MAX};
  tn_session *s = n.session;
  size_t parameters, count, none;
  float *start, *now, *update;
  MUST(tn_parameters_count(s, TN_SET_ALL, &parameters, &count));
  MUST(tn_parameters_count(s, TN_SET_ADAPTERS, NULL, &none));
  EXPECT(parameters == 6 && none == 0);
  start = (float *)malloc(3 * count * sizeof *start);
  if (start == NULL) exit(1);
  now = start + count;
  update = now + count;
  MUST(tn_parameters_read(s, TN_SET_TRAINABLE, start, count));
  EXPECT(memcmp(start, data, WORDS * WIDTH * sizeof *start) == 0);
  MUST(tn_session_get_trainable(s, now, count * sizeof *now));
  EXPECT(memcmp(start, now, count * sizeof *now) == 0);
  for (size_t i = 0; i < count; i++) update[i] = noise();
  MUST(tn_parameters_add(s, TN_SET_ALL, 0.5f, update, count));
  MUST(tn_parameters_read(s, TN_SET_ALL, now, count));
  for (size_t i = 0; i < count; i++) EXPECT(now[i] == start[i] + 0.5f * update[i]);
  MUST(tn_parameters_difference(s, TN_SET_ALL, start, update, count));
  for (size_t i = 0; i < count; i++) EXPECT(update[i] == now[i] - start[i]);
  for (size_t i = 0; i < COUNT(wrong); i++) {
    REFUSED(ARGUMENT, tn_parameters_count(s, wrong[i], &out.size, &out.size));
    REFUSED(ARGUMENT, tn_parameters_read(s, wrong[i], &out.loss, 1));
    REFUSED(ARGUMENT, tn_parameters_write(s, wrong[i], start, count));
    REFUSED(ARGUMENT, tn_parameters_difference(s, wrong[i], start, &out.loss, 1));
    REFUSED(ARGUMENT, tn_parameters_add(s, wrong[i], 1, update, count));
  }
  REFUSED_BARE(tn_parameters_count(NULL, TN_SET_ALL, &out.size, &out.size));
  REFUSED_BARE(tn_parameters_read(NULL, TN_SET_ALL, &out.loss, 1));
  REFUSED_BARE(tn_parameters_write(NULL, TN_SET_ALL, start, count));
  REFUSED_BARE(tn_parameters_difference(NULL, TN_SET_ALL, start, &out.loss, 1));
  REFUSED_BARE(tn_parameters_add(NULL, TN_SET_ALL, 1, update, count));
  REFUSED(ARGUMENT, tn_parameters_read(s, TN_SET_ALL, &out.loss, 1));
  REFUSED(ARGUMENT, tn_parameters_read(s, TN_SET_ALL, NULL, count));
  REFUSED(ARGUMENT, tn_parameters_write(s, TN_SET_ALL, start, count - 1));
  REFUSED(ARGUMENT, tn_parameters_write(s, TN_SET_ALL, NULL, count));
  REFUSED(ARGUMENT, tn_parameters_difference(s, TN_SET_ALL, start, &out.loss, 1));
  REFUSED(ARGUMENT, tn_parameters_difference(s, TN_SET_ALL, NULL, update, count));
  REFUSED(ARGUMENT, tn_parameters_add(s, TN_SET_ALL, 1, update, SIZE_MAX));
  MUST(tn_parameters_read(s, TN_SET_ALL, update, count));
  EXPECT(memcmp(update, now, count * sizeof *now) == 0);
  MUST(tn_parameters_write(s, TN_SET_ALL, start, count));
  MUST(tn_parameters_read(s, TN_SET_ALL, now, count));
  EXPECT(memcmp(start, now, count * sizeof *now) == 0);
  free(start);
}

/* Weighted sums, plain and from bytes, and what is kept for the next round. */
static void sums(void) {
  const float share[CLIENTS] = {0.5f, 0.3f, 0.2f};
  const uint32_t widths[] = {0, 2, 4, 8, 32};
  size_t bound, size;
  for (int c = 0; c < CLIENTS; c++) MUST(tn_update_accumulate(cx, share[c], x[c], sum, LONG));
  for (int i = 0; i < LONG; i++) {
    double want = 0;
    for (int c = 0; c < CLIENTS; c++) want += (double)share[c] * x[c][i];
    EXPECT(fabs(sum[i] - want) < 1e-6);
    weights[i] = (float)(i % 3);
  }
  memcpy(residual, sum, sizeof sum);
  MUST(tn_update_average(cx, weights, sum, LONG));
  for (int i = 0; i < LONG; i++) EXPECT(sum[i] == (i % 3 == 0 ? 0.0f : residual[i] / (float)(i % 3)));
  for (size_t w = 0; w < COUNT(widths); w++) {
    for (uint64_t keep = 0; keep <= LONG; keep += LONG / 10) {
      const tn_compression how = compression(keep, widths[w]);
      tn_message message;
      int sent = 0;
      memset(sum, 0, sizeof sum);
      memset(residual, 0, sizeof residual);
      MUST(tn_update_bound(cx, &how, LONG, &bound));
      EXPECT(bound <= ROOM - 1);
      /* At any address. */
      MUST(tn_update_compress(cx, &how, x[0], residual, LONG, bytes + 1, ROOM - 1, &size));
      EXPECT(size <= bound);
      memset(&message, 0, sizeof message);
      message.struct_size = sizeof message;
      MUST(tn_update_inspect(cx, bytes + 1, size, &message));
      EXPECT(message.count == LONG && message.kept == (keep == 0 ? (uint64_t)LONG : keep));
      EXPECT(message.bits == (widths[w] == 0 ? 32u : widths[w]));
      MUST(tn_update_add(cx, 2.0f, bytes + 1, size, sum, LONG));
      for (int i = 0; i < LONG; i++) {
        EXPECT(fabsf(sum[i] / 2 + residual[i] - x[0][i]) < 1e-6f);
        sent += sum[i] != 0.0f;
      }
      EXPECT((uint64_t)sent <= message.kept);
    }
  }
}

static void vectors(void) {
  tn_compression how = compression(100, 4);
  const uint32_t widths[] = {1, 3, 5, 16, 33, UINT32_MAX};
  float wrong[3] = {1.0f, 2.0f, 3.0f};
  tn_message message;
  size_t size;
  REFUSED_BARE(tn_update_accumulate(NULL, 1, x[0], &out.loss, 1));
  REFUSED_BARE(tn_update_average(NULL, x[0], &out.loss, 1));
  REFUSED_BARE(tn_update_bound(NULL, &how, 1, &out.size));
  REFUSED_BARE(tn_update_compress(NULL, &how, x[0], NULL, 1, out.bytes, 1024, &out.size));
  REFUSED_BARE(tn_update_inspect(NULL, bytes, 1, &message));
  REFUSED_BARE(tn_update_add(NULL, 1, bytes, 1, &out.loss, 1));
  REFUSED(ARGUMENT, tn_update_accumulate(cx, 1, NULL, &out.loss, 1));
  REFUSED(ARGUMENT, tn_update_accumulate(cx, 1, x[0], NULL, 1));
  REFUSED(ARGUMENT, tn_update_accumulate(cx, 1, x[0], &out.loss, SIZE_MAX));
  REFUSED(ARGUMENT, tn_update_average(cx, NULL, &out.loss, 1));
  REFUSED(ARGUMENT, tn_update_average(cx, x[0], NULL, 1));
  REFUSED(ARGUMENT, tn_update_bound(cx, &how, 1, NULL));
  REFUSED(TN_ERROR_MEMORY, tn_update_bound(cx, NULL, SIZE_MAX, &out.size));
  REFUSED_SIZES(how, tn_update_bound(cx, &how, 1, &out.size));
  REFUSED_SIZES(how, tn_update_compress(cx, &how, x[0], NULL, LONG, bytes, ROOM, &out.size));
  for (size_t i = 0; i < COUNT(widths); i++) {
    how.bits = widths[i];
    REFUSED(ARGUMENT, tn_update_bound(cx, &how, 1, &out.size));
    REFUSED(ARGUMENT, tn_update_compress(cx, &how, x[0], NULL, LONG, bytes, ROOM, &out.size));
  }
  how.bits = 4;
  REFUSED(ARGUMENT, tn_update_compress(cx, &how, NULL, NULL, LONG, bytes, ROOM, &out.size));
  REFUSED(ARGUMENT, tn_update_compress(cx, &how, x[0], NULL, LONG, NULL, ROOM, &out.size));
  REFUSED(ARGUMENT, tn_update_compress(cx, &how, x[0], NULL, LONG, bytes, ROOM, NULL));
  REFUSED(ARGUMENT, tn_update_compress(cx, &how, x[0], NULL, LONG, bytes, 64, &out.size));
  for (uint64_t keep = 0; keep < 3; keep++) {
    how.keep = keep;
    wrong[1] = NAN;
    memset(residual, 0, sizeof residual);
    REFUSED(ARGUMENT, tn_update_compress(cx, &how, wrong, NULL, 3, bytes, ROOM, &out.size));
    REFUSED(ARGUMENT, tn_update_compress(cx, &how, wrong, residual, 3, bytes, ROOM, &out.size));
    EXPECT(residual[0] == 0.0f && residual[2] == 0.0f);
    /* Both finite, but not their sum. */
    wrong[1] = residual[1] = 3e38f;
    REFUSED(ARGUMENT, tn_update_compress(cx, &how, wrong, residual, 3, bytes, ROOM, &out.size));
    EXPECT(residual[0] == 0.0f && residual[1] == 3e38f && residual[2] == 0.0f);
  }
  /* Bytes of strangers: cut, lengthened, or changed anywhere. */
  how = compression(100, 4);
  MUST(tn_update_compress(cx, &how, x[0], NULL, LONG, bytes, ROOM, &size));
  REFUSED(ARGUMENT, tn_update_add(cx, 1, NULL, size, sum, LONG));
  REFUSED(ARGUMENT, tn_update_add(cx, 1, bytes, size, NULL, LONG));
  REFUSED(ARGUMENT, tn_update_add(cx, 1, bytes, size, sum, LONG - 1));
  REFUSED_SIZES(message, tn_update_inspect(cx, bytes, size, &message));
  REFUSED(ARGUMENT, tn_update_inspect(cx, bytes, size, NULL));
  REFUSED(ARGUMENT, tn_update_inspect(cx, NULL, size, &message));
  memset(sum, 0, sizeof sum);
  for (size_t cut = 0; cut <= size + 1; cut++) {
    if (cut == size) continue;
    REFUSED(TN_ERROR_FORMAT, tn_update_add(cx, 1, bytes, cut, sum, LONG));
    REFUSED(TN_ERROR_FORMAT, tn_update_inspect(cx, bytes, cut, &message));
  }
  for (size_t at = 0; at < 32; at++) {
    const unsigned char kept = bytes[at];
    bytes[at] = (unsigned char)~kept;
    prepare();
    EXPECT(tn_update_add(cx, 1, bytes, size, sum, LONG) != TN_OK);
    bytes[at] = kept;
  }
  for (int i = 0; i < LONG; i++) EXPECT(sum[i] == 0.0f);
}

static tn_mask mask(int of, int with) {
  tn_mask made;
  memset(&made, 0, sizeof made);
  made.struct_size = sizeof made;
  made.seed = (uint64_t)(of < with ? of * 10 + with : with * 10 + of);
  made.round = 7;
  made.negative = of > with;
  return made;
}

/* Masked sums of all clients, and of those left where one is lost. */
static void secure(void) {
  tn_fixed_point fixed;
  tn_mask masks[CLIENTS];
  fixed.struct_size = sizeof fixed;
  fixed.clip = 2.0f;
  fixed.clients = CLIENTS;
  for (int c = 0; c < CLIENTS; c++) {
    size_t count = 0;
    MUST(tn_secure_encode(cx, &fixed, 1.0f, x[c], words[c], LONG));
    for (int other = 0; other < CLIENTS; other++)
      if (other != c) masks[count++] = mask(c, other);
    MUST(tn_secure_mask(cx, masks, count, words[c], LONG));
  }
  for (int lost = 0; lost <= CLIENTS; lost++) {
    memset(total, 0, sizeof total);
    for (int c = 0; c < CLIENTS; c++) {
      tn_mask back = mask(c, lost);
      if (c == lost) continue;
      MUST(tn_secure_add(cx, words[c], total, LONG));
      back.negative = !back.negative;
      if (lost < CLIENTS) MUST(tn_secure_mask(cx, &back, 1, total, LONG));
    }
    MUST(tn_secure_decode(cx, &fixed, 1.0f, total, sum, LONG));
    for (int i = 0; i < LONG; i++) {
      double want = 0;
      for (int c = 0; c < CLIENTS; c++) want += c == lost ? 0 : x[c][i];
      EXPECT(fabs(sum[i] - want) < 1e-6);
    }
  }
  REFUSED_BARE(tn_secure_encode(NULL, &fixed, 1, x[0], total, LONG));
  REFUSED_BARE(tn_secure_mask(NULL, masks, 1, total, LONG));
  REFUSED_BARE(tn_secure_add(NULL, words[0], total, LONG));
  REFUSED_BARE(tn_secure_decode(NULL, &fixed, 1, total, sum, LONG));
  REFUSED_SIZES(fixed, tn_secure_encode(cx, &fixed, 1, x[0], total, LONG));
  REFUSED_SIZES(fixed, tn_secure_decode(cx, &fixed, 1, total, sum, LONG));
  REFUSED_SIZES(masks[0], tn_secure_mask(cx, masks, 1, total, LONG));
  REFUSED(ARGUMENT, tn_secure_encode(cx, NULL, 1, x[0], total, LONG));
  REFUSED(ARGUMENT, tn_secure_decode(cx, NULL, 1, total, sum, LONG));
  REFUSED(ARGUMENT, tn_secure_encode(cx, &fixed, 1, NULL, total, LONG));
  REFUSED(ARGUMENT, tn_secure_encode(cx, &fixed, 1, x[0], NULL, LONG));
  REFUSED(ARGUMENT, tn_secure_mask(cx, NULL, 1, total, LONG));
  REFUSED(ARGUMENT, tn_secure_mask(cx, masks, SIZE_MAX, total, LONG));
  REFUSED(ARGUMENT, tn_secure_mask(cx, masks, 1, NULL, LONG));
  REFUSED(ARGUMENT, tn_secure_add(cx, NULL, total, LONG));
  REFUSED(ARGUMENT, tn_secure_add(cx, words[0], NULL, LONG));
  REFUSED(ARGUMENT, tn_secure_decode(cx, &fixed, 1, NULL, sum, LONG));
  REFUSED(ARGUMENT, tn_secure_decode(cx, &fixed, 1, total, NULL, LONG));
  fixed.clients = 0;
  REFUSED(ARGUMENT, tn_secure_encode(cx, &fixed, 1, x[0], total, LONG));
  fixed.clients = 1;
  fixed.clip = NAN;
  REFUSED(ARGUMENT, tn_secure_encode(cx, &fixed, 1, x[0], total, LONG));
  fixed.clip = -1.0f;
  REFUSED(ARGUMENT, tn_secure_decode(cx, &fixed, 1, total, sum, LONG));
}

/* Half of a network's width, from the round's number on. */
static void submodels(network n) {
  tn_parameter parameters[6];
  tn_axis axes[4];
  tn_submodel sub;
  size_t whole = 0, count;
  float part[256];
  memset(axes, 0, sizeof axes);
  memset(parameters, 0, sizeof parameters);
  for (size_t i = 0; i < COUNT(parameters); i++) {
    parameters[i].struct_size = sizeof *parameters;
    MUST(tn_session_parameter(n.session, i, &parameters[i]));
    whole += (size_t)parameters[i].size / sizeof(float);
  }
  for (size_t i = 0; i < COUNT(axes); i++) {
    axes[i].struct_size = sizeof *axes;
    axes[i].length = WIDTH / 2;
    axes[i].start = 5;
  }
  axes[0].parameters = "w";
  axes[1].parameters = "b";
  axes[2].parameters = "shift";
  axes[3].parameters = "head";
  axes[3].axis = 1;
  sub.struct_size = sizeof sub;
  sub.parameters = parameters;
  sub.parameter_count = COUNT(parameters);
  sub.axes = axes;
  sub.axis_count = COUNT(axes);
  MUST(tn_submodel_count(cx, &sub, &count));
  EXPECT(count == whole - WIDTH * WIDTH / 2 - WIDTH / 2 - WIDTH / 2 - CLASSES * WIDTH / 2);
  for (size_t i = 0; i < whole; i++) x[0][i] = (float)i;
  MUST(tn_submodel_extract(cx, &sub, x[0], whole, part, count));
  memset(sum, 0, sizeof sum);
  memset(weights, 0, sizeof weights);
  MUST(tn_submodel_add(cx, &sub, 0.5f, part, count, sum, weights, whole));
  MUST(tn_submodel_add(cx, &sub, 1.5f, part, count, sum, weights, whole));
  for (size_t i = 0, kept = 0; i < whole; i++) {
    EXPECT(weights[i] == 0.0f || weights[i] == 2.0f);
    EXPECT(sum[i] == weights[i] * (float)i);
    kept += weights[i] != 0.0f;
    EXPECT(i + 1 < whole || kept == count);
  }
  /* The window of 8 that begins at 5 has 5, 6, 7 and 0: of `w`, after the table, rows. */
  for (int row = 0; row < WIDTH; row++)
    EXPECT((weights[WORDS * WIDTH + row * WIDTH] != 0.0f) == (row >= 5 || row == 0));
  REFUSED_BARE(tn_submodel_count(NULL, &sub, &out.size));
  REFUSED_BARE(tn_submodel_extract(NULL, &sub, x[0], whole, part, count));
  REFUSED_BARE(tn_submodel_add(NULL, &sub, 1, part, count, sum, weights, whole));
  REFUSED(ARGUMENT, tn_submodel_count(cx, &sub, NULL));
  REFUSED(ARGUMENT, tn_submodel_extract(cx, &sub, NULL, whole, part, count));
  REFUSED(ARGUMENT, tn_submodel_extract(cx, &sub, x[0], whole - 1, part, count));
  REFUSED(ARGUMENT, tn_submodel_extract(cx, &sub, x[0], whole, NULL, count));
  REFUSED(ARGUMENT, tn_submodel_extract(cx, &sub, x[0], whole, part, count + 1));
  REFUSED(ARGUMENT, tn_submodel_add(cx, &sub, 1, part, count - 1, sum, weights, whole));
  REFUSED(ARGUMENT, tn_submodel_add(cx, &sub, 1, part, count, NULL, weights, whole));
  REFUSED(ARGUMENT, tn_submodel_add(cx, &sub, 1, part, count, sum, NULL, whole));
  REFUSED_SIZES(sub, tn_submodel_count(cx, &sub, &out.size));
  axes[1].parameters = "nothing";
  REFUSED(TN_ERROR_NOT_FOUND, tn_submodel_count(cx, &sub, &out.size));
  axes[1].parameters = NULL;
  REFUSED(ARGUMENT, tn_submodel_count(cx, &sub, &out.size));
  axes[1].parameters = "b";
  axes[1].axis = 1;
  REFUSED(ARGUMENT, tn_submodel_count(cx, &sub, &out.size));
  axes[1].axis = UINT32_MAX;
  REFUSED(ARGUMENT, tn_submodel_count(cx, &sub, &out.size));
  axes[1].axis = 0;
  axes[1].length = UINT64_MAX;
  REFUSED(ARGUMENT, tn_submodel_count(cx, &sub, &out.size));
  axes[1].length = 0;
  REFUSED(ARGUMENT, tn_submodel_count(cx, &sub, &out.size));
  axes[1].length = 1;
  axes[1].unit = 3;
  REFUSED(ARGUMENT, tn_submodel_count(cx, &sub, &out.size));
  axes[1].unit = 0;
  axes[1].struct_size++;
  REFUSED(ARGUMENT, tn_submodel_count(cx, &sub, &out.size));
  axes[1].struct_size--;
  parameters[2].name = NULL;
  REFUSED(ARGUMENT, tn_submodel_count(cx, &sub, &out.size));
  parameters[2].name = "b";
  parameters[2].rank = 99;
  REFUSED(ARGUMENT, tn_submodel_count(cx, &sub, &out.size));
  parameters[2].rank = 1;
  parameters[2].dims[0] = -1;
  REFUSED(TN_ERROR_SHAPE, tn_submodel_count(cx, &sub, &out.size));
  sub.parameters = NULL;
  REFUSED(ARGUMENT, tn_submodel_count(cx, &sub, &out.size));
}

static void write_file(const char *text) {
  FILE *file = fopen("config.json", "wb");
  if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0) exit(1);
}

/* A model of a config alone takes what a server sends. */
static void models(void) {
  const char *texts[] = {"", "{", "[]", "{\"model_type\": \"llama\"}", "{\"model_type\": \"bert\"}"};
  const char *good =
      "{\"model_type\": \"%s\", \"vocab_size\": 64, \"hidden_size\": 32, \"intermediate_size\": 64,"
      "\"num_hidden_layers\": %s, \"num_attention_heads\": 4, \"tie_word_embeddings\": %s}";
  const char *kinds[][3] = {{"llama", "2", "true"}, {"qwen2", "2", "false"}, {"qwen3", "1", "true"}};
  char text[512];
  tn_model_options options;
  REFUSED_BARE(tn_model_empty(NULL, "config.json", &out.model));
  write_file("{}");
  REFUSED(ARGUMENT, tn_model_empty(cx, NULL, &out.model));
  REFUSED(ARGUMENT, tn_model_empty(cx, BROKEN, &out.model));
  REFUSED(ARGUMENT, tn_model_empty(cx, "config.json", NULL));
  REFUSED(TN_ERROR_IO, tn_model_empty(cx, "no/such/config.json", &out.model));
  REFUSED(TN_ERROR_IO, tn_model_empty(cx, "no/such.gguf", &out.model));
  for (size_t i = 0; i < COUNT(texts); i++) {
    write_file(texts[i]);
    REFUSED(TN_ERROR_FORMAT, tn_model_empty(cx, "config.json", &out.model));
  }
  snprintf(text, sizeof text, good, "llama", "16777216", "true");
  write_file(text);
  REFUSED(TN_ERROR_FORMAT, tn_model_empty(cx, "config.json", &out.model));
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.seq = 4;
  for (size_t i = 0; i < COUNT(kinds); i++) {
    for (tn_trains trains = TN_TRAIN_LORA; trains <= TN_TRAIN_EVERYTHING; trains++) {
      const tn_set own = trains == TN_TRAIN_LORA ? TN_SET_ADAPTERS : TN_SET_TRAINABLE;
      const int32_t tokens[4] = {1, 2, 3, 4};
      tn_model *model;
      tn_session *s;
      size_t all, some;
      float *parameters;
      float loss;
      snprintf(text, sizeof text, good, kinds[i][0], kinds[i][1], kinds[i][2]);
      write_file(text);
      MUST(tn_model_empty(cx, "config.json", &model));
      options.trains = trains;
      MUST(tn_session_from_model(model, &options, NULL, &s));
      MUST(tn_parameters_count(s, TN_SET_ALL, NULL, &all));
      MUST(tn_parameters_count(s, own, NULL, &some));
      EXPECT(some > 0 && (trains == TN_TRAIN_LORA ? some < all : some == all));
      parameters = (float *)malloc(2 * all * sizeof *parameters);
      if (parameters == NULL) exit(1);
      for (size_t p = 0; p < all; p++) parameters[p] = 0.1f * noise();
      MUST(tn_parameters_write(s, TN_SET_ALL, parameters, all));
      MUST(tn_parameters_read(s, TN_SET_ALL, parameters + all, all));
      EXPECT(memcmp(parameters, parameters + all, all * sizeof *parameters) == 0);
      /* A smaller set is the first part. */
      MUST(tn_parameters_read(s, own, parameters + all, some));
      EXPECT(memcmp(parameters, parameters + all, some * sizeof *parameters) == 0);
      MUST(tn_session_write(s, "tokens", tokens, sizeof tokens));
      MUST(tn_session_write(s, "targets", tokens, sizeof tokens));
      MUST(tn_session_step(s, NULL, NULL));
      MUST(tn_session_evaluate(s, NULL, &loss));
      EXPECT(loss > 1.0f && loss < 9.0f);
      free(parameters);
      tn_session_destroy(s);
      tn_model_destroy(model);
    }
  }
}

int main(void) {
  network n;
  for (size_t i = 0; i < COUNT(data); i++) data[i] = noise();
  for (int c = 0; c < CLIENTS; c++)
    for (int i = 0; i < LONG; i++) x[c][i] = noise() * noise();
  begin();
  n = make_network(data, NULL);
  sets(n);
  sums();
  vectors();
  secure();
  submodels(n);
  models();
  free_network(n);
  return end();
}
