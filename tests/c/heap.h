/*
 * Memory for programs that give the library an allocator of theirs: aligned by hand, full of other
 * things when it is given and when it comes back, so that nothing can count on what lay there.
 */
#ifndef HEAP_H
#define HEAP_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static inline void *heap_take(size_t size, size_t alignment) {
  char *start, *memory;
  start = (char *)malloc(size + alignment + sizeof start);
  if (start == NULL) exit(1);
  memory = start + sizeof start;
  memory += (alignment - (uintptr_t)memory % alignment) % alignment;
  memcpy(memory - sizeof start, &start, sizeof start);
  memset(memory, 0xee, size);
  return memory;
}

static inline void heap_give(void *memory, size_t size) {
  char *start;
  memcpy(&start, (char *)memory - sizeof start, sizeof start);
  memset(memory, 0xdd, size);
  free(start);
}

#endif
