/* A plugin for QEMU's user mode (7.2): guest instructions executed between two calls of getpgid(2).
 *
 * Usage: qemu-aarch64 -plugin instructions.so,out=FILE ...; each getpgid of the guest appends the count so far
 * to FILE. That call because no interpreter makes it, and Python has it (os.getpgid). With `latest=FILE` instead, every
 * system call writes the count so far over the one before: for a guest that is killed. Debian ships no header of this
 * interface, so that the few declarations stand here (qemu-plugin.h, API version 1).
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_syscall_cb(plugin_id,
                                                 void (*)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t,
                                                          uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int op, void *counter, uint64_t add);

int qemu_plugin_version = 1;

enum { ADD_U64 = 0, GETPGID_ARM64 = 155 };

static uint64_t executed;
static FILE *out;
static int only_latest;

static void translated(plugin_id id, struct qemu_plugin_tb *block) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &executed, qemu_plugin_tb_n_insns(block));
}

static void called(plugin_id id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
  (void)id, (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
  if (only_latest || number == GETPGID_ARM64) {
    if (only_latest) rewind(out);
    fprintf(out, "%" PRIu64 "\n", executed);
    fflush(out);
  }
}

int qemu_plugin_install(plugin_id id, const void *info, int count, char **arguments) {
  (void)info;
  if (count != 1) return 1;
  only_latest = strncmp(arguments[0], "latest=", 7) == 0;
  if (!only_latest && strncmp(arguments[0], "out=", 4) != 0) return 1;
  if ((out = fopen(strchr(arguments[0], '=') + 1, "w")) == NULL) return 1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_vcpu_syscall_cb(id, called);
  return 0;
}
