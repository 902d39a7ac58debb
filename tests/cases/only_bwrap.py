"""A host on which one program alone may make user namespaces: only_bwrap.py [--by-flags] COMMAND ARGS...

The command runs under a filter that tells this process of every call that would make a user namespace (seccomp_unotify(2)).
Those of /usr/bin/bwrap go on; all others get EPERM, as from a security policy. Ends as the command does. Of such filters a
process can have one alone, so with --by-flags the filter decides itself: who clones with a user namespace has to want a mount
namespace in the same call, as that program does.
"""
import ctypes, fcntl, os, select, socket, struct, sys

ALLOWED = "/usr/bin/bwrap"
NEW_USER, NEW_MOUNTS = 0x10000000, 0x00020000
# Numbers of clone, unshare, clone3, seccomp, and the mark of the processor.
CLONE, UNSHARE, CLONE3, SECCOMP, ARCHITECTURE = {
    "x86_64": (56, 272, 435, 317, 0xC000003E),
    "aarch64": (220, 97, 435, 277, 0xC00000B7),
}[os.uname().machine]
NOTIFY, ALLOW, ERRNO = 0x7FC00000, 0x7FFF0000, 0x00050000
EPERM, ENOSYS = 1, 38
RECEIVE, SEND = 0xC0502100, 0xC0182101
libc = ctypes.CDLL(None, use_errno=True)


def line(code, k, yes=0, no=0):
    return struct.pack("HBBI", code, yes, no, k)


def rules():
    load, equal, has, end = 0x20, 0x15, 0x45, 0x06
    return b"".join([
        line(load, 4), line(equal, ARCHITECTURE, 1, 0), line(end, ERRNO | EPERM),
        line(load, 0),
        line(equal, CLONE3, 5, 0), line(equal, CLONE, 1, 0), line(equal, UNSHARE, 0, 4),
        line(load, 16), line(has, NEW_USER, 0, 2), line(end, NOTIFY),
        line(end, ERRNO | ENOSYS),
        line(end, ALLOW),
    ])


def rules_by_flags():
    load, equal, has, end = 0x20, 0x15, 0x45, 0x06
    return b"".join([
        line(load, 4), line(equal, ARCHITECTURE, 1, 0), line(end, ERRNO | EPERM),
        line(load, 0),
        line(equal, CLONE3, 4, 0), line(equal, CLONE, 0, 4),
        line(load, 16), line(has, NEW_USER, 0, 2), line(has, NEW_MOUNTS, 1, 2),
        line(end, ERRNO | ENOSYS),
        line(end, ALLOW),
        line(end, ERRNO | EPERM),
    ])


def become_by_flags(words):
    text = rules_by_flags()
    buffer = ctypes.create_string_buffer(text, len(text))
    program = struct.pack("HxxxxxxQ", len(text) // 8, ctypes.addressof(buffer))
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.syscall(SECCOMP, 1, 0, ctypes.c_char_p(program)) != 0:
        os._exit(125)
    os.execvp(words[0], words)


def become(channel, words):
    text = rules()
    buffer = ctypes.create_string_buffer(text, len(text))
    program = struct.pack("HxxxxxxQ", len(text) // 8, ctypes.addressof(buffer))
    if libc.prctl(38, 1, 0, 0, 0) != 0:
        os._exit(125)
    listener = libc.syscall(SECCOMP, 1, 8, ctypes.c_char_p(program))
    if listener < 0:
        os._exit(125)
    socket.send_fds(channel, [b"x"], [listener])
    os.close(listener)
    os.execvp(words[0], words)


def answer(listener):
    call = bytearray(80)
    try:
        fcntl.ioctl(listener, RECEIVE, call)
        number, process = struct.unpack_from("QI", call)
        allowed = os.readlink(f"/proc/{process}/exe") == ALLOWED
        reply = struct.pack("QqiI", number, 0, 0 if allowed else -EPERM, 1 if allowed else 0)
        fcntl.ioctl(listener, SEND, reply)
    except OSError:
        pass  # its caller is gone


def main():
    if sys.argv[1] == "--by-flags":
        become_by_flags(sys.argv[2:])
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        become(theirs, sys.argv[1:])
    theirs.close()
    _, received, _, _ = socket.recv_fds(ours, 1, 1)
    watched = os.pidfd_open(child)
    poll = select.poll()
    poll.register(received[0], select.POLLIN)
    poll.register(watched, select.POLLIN)
    while True:
        ready = dict(poll.poll())
        if watched in ready:
            _, status = os.waitpid(child, 0)
            sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)
        if ready[received[0]] & select.POLLIN:
            answer(received[0])
        else:
            poll.unregister(received[0])  # nobody is left who could make a call


main()
