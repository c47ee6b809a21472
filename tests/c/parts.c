/*
 * A model in two sessions, cut between layers, beside one session of the whole: the same losses and
 * the same adapters.
 *
 *   parts MODEL SEQ FIRST_LAYER_OF_SECOND_PART STEPS
 */
#include "check.h"

#include <math.h>

static tn_model *model;
static uint32_t seq;

static tn_session *make(uint32_t first, uint32_t end, tn_dtype wire) {
  tn_model_options how;
  tn_train_options training;
  tn_session *session;
  memset(&how, 0, sizeof how);
  how.struct_size = sizeof how;
  how.seq = seq;
  how.lora_rank = 4;
  how.first_layer = first;
  how.end_layer = end;
  how.wire = wire;
  memset(&training, 0, sizeof training);
  training.struct_size = sizeof training;
  training.lr = 1e-2f;
  MUST(tn_session_from_model(model, &how, &training, &session));
  return session;
}

/* Carries what one session gives into the input of that name of another. */
static void carry(tn_session *from, tn_session *to, const char *name, void *bytes, size_t size) {
  MUST(tn_session_read(from, name, bytes, size));
  MUST(tn_session_write(to, name, bytes, size));
}

static float step(tn_session *session) {
  tn_report report;
  report.struct_size = sizeof report;
  MUST(tn_session_step(session, NULL, &report));
  return report.loss;
}

/* The largest difference of a part's adapters from the whole's, whose first they are at `offset`. */
static double apart(tn_session *part, const float *whole, size_t *offset) {
  size_t size;
  float *own;
  double worst = 0.0;
  MUST(tn_session_trainable_size(part, &size));
  own = (float *)malloc(size);
  if (own == NULL) exit(1);
  MUST(tn_session_get_trainable(part, own, size));
  for (size_t i = 0; i < size / sizeof *own; i++) worst = fmax(worst, fabs((double)own[i] - whole[*offset + i]));
  *offset += size / sizeof *own;
  free(own);
  return worst;
}

int main(int argc, char **argv) {
  tn_session *whole, *first, *second;
  tn_parameter weight;
  char hidden[32], gradient[40];
  size_t width = 0, size, total, bytes, count, offset = 0;
  double worst = 0.0, moved = 0.0;
  float *all, *start;
  void *wire;
  uint32_t cut;
  int steps;
  if (argc != 5) return 2;
  begin();
  seq = (uint32_t)atoi(argv[2]);
  cut = (uint32_t)atoi(argv[3]);
  steps = atoi(argv[4]);
  MUST(tn_model_load(cx, argv[1], &model));
  whole = make(0, 0, TN_F32);
  first = make(0, cut, TN_F32);
  second = make(cut, 0, TN_F32);
  weight.struct_size = sizeof weight;
  MUST(tn_session_parameter_count(first, &count, NULL));
  for (size_t i = 0; i < count && width == 0; i++) {
    MUST(tn_session_parameter(first, i, &weight));
    if (strcmp(weight.name, "model.embed_tokens.weight") == 0) width = (size_t)weight.dims[1];
  }
  EXPECT(width > 0);
  sprintf(hidden, "hidden/%u", (unsigned)cut);
  sprintf(gradient, "grad/%s", hidden);
  size = seq * sizeof(int32_t);
  bytes = seq * width * sizeof(float);
  wire = malloc(bytes);
  MUST(tn_session_trainable_size(whole, &total));
  all = (float *)malloc(2 * total);
  if (wire == NULL || all == NULL) return 1;
  start = all + total / sizeof *all;
  MUST(tn_session_get_trainable(whole, start, total));
  for (int s = 0; s < steps; s++) {
    int32_t tokens[512], targets[512];
    float loss, parts;
    for (uint32_t i = 0; i < seq; i++) {
      tokens[i] = (int32_t)((i * 31 + (uint32_t)s * 17) % 60);
      targets[i] = (int32_t)((i * 31 + 31 + (uint32_t)s * 17) % 60);
    }
    MUST(tn_session_write(whole, "tokens", tokens, size));
    MUST(tn_session_write(whole, "targets", targets, size));
    loss = step(whole);
    MUST(tn_session_write(first, "tokens", tokens, size));
    MUST(tn_session_forward(first, NULL));
    carry(first, second, hidden, wire, bytes);
    MUST(tn_session_write(second, "targets", targets, size));
    parts = step(second);
    carry(second, first, gradient, wire, bytes);
    EXPECT(step(first) == 0.0f);
    EXPECT(fabsf(loss - parts) <= 1e-5f * loss);
    printf("loss %.4f\n", loss);
  }
  MUST(tn_session_get_trainable(whole, all, total));
  for (size_t i = 0; i < total / sizeof *all; i++) moved = fmax(moved, fabs((double)all[i] - start[i]));
  worst = apart(first, all, &offset);
  worst = fmax(worst, apart(second, all, &offset));
  EXPECT(offset == total / sizeof *all);
  EXPECT(moved > 1e-3 && worst <= 1e-5 * moved);
  printf("adapters moved by up to %.1e, the parts' are within %.1e of the whole's\n", moved, worst);
  {
    /* An evaluation in parts, and the bytes of a narrower form. */
    tn_session *a = make(0, cut, TN_BF16), *b = make(cut, 0, TN_BF16);
    int32_t tokens[512], targets[512];
    float exact, rounded, none;
    for (uint32_t i = 0; i < seq; i++) tokens[i] = targets[i] = (int32_t)(i % 60);
    tn_session_destroy(whole);
    whole = make(0, 0, TN_F32);
    MUST(tn_session_write(whole, "tokens", tokens, size));
    MUST(tn_session_write(whole, "targets", targets, size));
    MUST(tn_session_evaluate(whole, NULL, &exact));
    MUST(tn_session_write(a, "tokens", tokens, size));
    MUST(tn_session_evaluate(a, NULL, &none));
    carry(a, b, hidden, wire, bytes / 2);
    MUST(tn_session_write(b, "targets", targets, size));
    MUST(tn_session_evaluate(b, NULL, &rounded));
    EXPECT(none == 0.0f && fabsf(exact - rounded) < 0.02f * exact);
    tn_session_destroy(a);
    tn_session_destroy(b);
  }
  free(all);
  free(wire);
  tn_session_destroy(whole);
  tn_session_destroy(first);
  tn_session_destroy(second);
  tn_model_destroy(model);
  return end();
}
