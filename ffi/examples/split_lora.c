/*
 * Trains LoRA adapters of a language model in two processes, each of which holds half of its layers:
 * one has the text, the other what should follow, and between them a socket carries activations and
 * their gradients, as bfloat16.
 *
 *   cargo build --profile dist -p tenon
 *   cc -std=c99 -Iffi/include ffi/examples/split_lora.c -Ltarget/dist -ltenon -o split
 *   LD_LIBRARY_PATH=target/dist ./split MODEL.gguf [STEPS]
 *
 * On two devices the halves would be two programs; here one forks, and both ends of the socket lie
 * on this machine. For POSIX systems. Exits with 1 if the loss did not fall.
 */
#define _POSIX_C_SOURCE 200809L

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <tenon.h>
#include <unistd.h>

enum { SEQ = 64, CUT = 15, WIRE_BYTES = 2 };

/* "The sun rises in the east and sets in the west. Every morning, people wake up, ..." */
static const int32_t text[SEQ + 1] = {
    504, 2388, 13685, 281, 260, 6251, 284, 5208, 281, 260, 5846, 30, 5081, 5738, 28, 701, 11368,
    614, 28, 457, 13848, 28, 284, 685, 288, 746, 355, 1125, 30, 4643, 36411, 418, 582, 3822, 5027,
    20590, 418, 3426, 1106, 30, 378, 3575, 282, 4649, 314, 7042, 28, 284, 260, 3575, 282, 7158,
    314, 7268, 30, 533, 4339, 260, 2009, 359, 1890, 284, 260, 16573, 359};

static tn_context *context;

static void fail(const char *why) {
  perror(why);
  exit(1);
}

/* Ends the program with the reason if a call failed. */
static void check(tn_status status) {
  char why[512];
  if (status == TN_OK) return;
  tn_error_message(context, why, sizeof why);
  fprintf(stderr, "%s: %s\n", tn_status_text(status), why);
  exit(1);
}

/* Sockets carry any part of what is asked of them: these carry all. */
static void send_all(int to, const void *data, size_t size) {
  const char *at = (const char *)data;
  while (size > 0) {
    const ssize_t sent = send(to, at, size, MSG_NOSIGNAL);
    if (sent <= 0) fail("send");
    at += sent;
    size -= (size_t)sent;
  }
}

static void receive_all(int from, void *data, size_t size) {
  char *at = (char *)data;
  while (size > 0) {
    const ssize_t got = recv(from, at, size, 0);
    if (got <= 0) fail("receive");
    at += got;
    size -= (size_t)got;
  }
}

/* A session of the layers from `first` to `end`, of which 0 is the model's. */
static tn_session *make_part(const char *path, uint32_t first, uint32_t end) {
  tn_model *model;
  tn_model_options how;
  tn_train_options training;
  tn_session *session;
  memset(&how, 0, sizeof how);
  how.struct_size = sizeof how;
  how.seq = SEQ;
  how.lora_rank = 8;
  how.first_layer = first;
  how.end_layer = end;
  how.wire = TN_BF16;
  memset(&training, 0, sizeof training);
  training.struct_size = sizeof training;
  training.lr = 2e-3f;
  check(tn_context_create(NULL, &context));
  check(tn_model_load(context, path, &model));
  check(tn_session_from_model(model, &how, &training, &session));
  tn_model_destroy(model); /* the session keeps the file mapped */
  return session;
}

/* Bytes of what travels: the width of the model's table for each token. */
static size_t wire_size(tn_session *session) {
  tn_parameter parameter;
  size_t count;
  parameter.struct_size = sizeof parameter;
  check(tn_session_parameter_count(session, &count, NULL));
  for (size_t i = 0; i < count; i++) {
    check(tn_session_parameter(session, i, &parameter));
    if (strstr(parameter.name, "input_layernorm") != NULL) {
      return (size_t)parameter.dims[0] * SEQ * WIRE_BYTES;
    }
  }
  fprintf(stderr, "the part has no layer\n");
  exit(1);
}

static void *take_memory(size_t size) {
  void *memory = malloc(size);
  if (memory == NULL) fail("memory");
  return memory;
}

/* The half that has the text: its first layers. It is told the losses, and gives whether they fell. */
static int first_half(const char *path, int peer, int steps) {
  tn_session *session = make_part(path, 0, CUT);
  const size_t size = wire_size(session);
  void *wire = take_memory(size);
  float first = 0, loss = 0;
  check(tn_session_write(session, "tokens", text, SEQ * sizeof *text));
  for (int step = 0; step < steps; step++) {
    check(tn_session_forward(session, NULL));
    check(tn_session_read(session, "hidden/15", wire, size));
    send_all(peer, wire, size);
    receive_all(peer, &loss, sizeof loss);
    receive_all(peer, wire, size);
    check(tn_session_write(session, "grad/hidden/15", wire, size));
    check(tn_session_step(session, NULL, NULL));
    if (step == 0) first = loss;
    printf("step %d  loss %.3f\n", step + 1, loss);
  }
  printf("%d bytes each way in a step\n", (int)size);
  free(wire);
  tn_session_destroy(session);
  tn_context_destroy(context);
  return loss < first;
}

/* The half that knows what should follow: the last layers, and the loss. */
static void second_half(const char *path, int peer, int steps) {
  tn_session *session = make_part(path, CUT, 0);
  const size_t size = wire_size(session);
  void *wire = take_memory(size);
  tn_report report;
  report.struct_size = sizeof report;
  check(tn_session_write(session, "targets", text + 1, SEQ * sizeof *text));
  for (int step = 0; step < steps; step++) {
    receive_all(peer, wire, size);
    check(tn_session_write(session, "hidden/15", wire, size));
    check(tn_session_step(session, NULL, &report));
    check(tn_session_read(session, "grad/hidden/15", wire, size));
    send_all(peer, &report.loss, sizeof report.loss);
    send_all(peer, wire, size);
  }
  free(wire);
  tn_session_destroy(session);
  tn_context_destroy(context);
}

int main(int argc, char **argv) {
  const int steps = argc > 2 ? atoi(argv[2]) : 6;
  struct sockaddr_in address;
  socklen_t length = sizeof address;
  int listener, peer, status = 1, learned;
  pid_t child;
  if (argc < 2 || steps < 2) {
    fprintf(stderr, "usage: %s MODEL.gguf [STEPS]\n", argv[0]);
    return 2;
  }
  memset(&address, 0, sizeof address);
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  listener = socket(AF_INET, SOCK_STREAM, 0);
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) != 0) fail("bind");
  if (listen(listener, 1) != 0) fail("listen");
  if (getsockname(listener, (struct sockaddr *)&address, &length) != 0) fail("address");

  /* Before either half has a context, which has threads. */
  child = fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    close(listener);
    peer = socket(AF_INET, SOCK_STREAM, 0);
    if (peer < 0 || connect(peer, (struct sockaddr *)&address, length) != 0) fail("connect");
    second_half(argv[1], peer, steps);
    close(peer);
    return 0;
  }
  peer = accept(listener, NULL, NULL);
  if (peer < 0) fail("accept");
  close(listener);
  learned = first_half(argv[1], peer, steps);
  close(peer);
  if (waitpid(child, &status, 0) != child) fail("wait");
  return learned && status == 0 ? 0 : 1;
}
