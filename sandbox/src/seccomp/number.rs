//! The numbers behind the names that the filters use, for the processor this is compiled for.
//!
//! Only names that a filter mentions are here; a filter with another name does not compile.

/// What a name means on this processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syscall {
    /// Its number.
    Number(libc::c_long),
    /// This processor's kernel never had it.
    #[cfg_attr(
        target_arch = "x86_64",
        expect(dead_code, reason = "this one has them all")
    )]
    Absent,
}

macro_rules! table {
    (everywhere $($call:ident = $number:expr),*; x86_64 $($old:ident = $old_number:expr),*) => {
        $(pub(in crate::seccomp) const $call: Syscall = Syscall::Number($number);)*
        $(
            #[cfg(target_arch = "x86_64")]
            pub(in crate::seccomp) const $old: Syscall = Syscall::Number($old_number);
            #[cfg(not(target_arch = "x86_64"))]
            pub(in crate::seccomp) const $old: Syscall = Syscall::Absent;
        )*
    };
}

/// System calls by their names. The plain numbers are of calls newer than the C library's headers, the same everywhere.
#[expect(non_upper_case_globals, reason = "named as the kernel names them")]
pub(super) mod calls {
    use super::Syscall;

    table!(everywhere
        ioctl = libc::SYS_ioctl, mount = libc::SYS_mount, umount2 = libc::SYS_umount2,
        pivot_root = libc::SYS_pivot_root, move_mount = libc::SYS_move_mount, open_tree = libc::SYS_open_tree,
        open_tree_attr = 467, fsopen = libc::SYS_fsopen, fsconfig = libc::SYS_fsconfig,
        fsmount = libc::SYS_fsmount, fspick = libc::SYS_fspick, mount_setattr = libc::SYS_mount_setattr,
        setns = libc::SYS_setns, open_by_handle_at = libc::SYS_open_by_handle_at, unshare = libc::SYS_unshare,
        clone = libc::SYS_clone, clone3 = libc::SYS_clone3, add_key = libc::SYS_add_key, keyctl = libc::SYS_keyctl,
        request_key = libc::SYS_request_key, bpf = libc::SYS_bpf, perf_event_open = libc::SYS_perf_event_open,
        userfaultfd = libc::SYS_userfaultfd, io_uring_setup = libc::SYS_io_uring_setup,
        io_uring_enter = libc::SYS_io_uring_enter, io_uring_register = libc::SYS_io_uring_register,
        ptrace = libc::SYS_ptrace, process_vm_readv = libc::SYS_process_vm_readv,
        process_vm_writev = libc::SYS_process_vm_writev, pidfd_getfd = libc::SYS_pidfd_getfd, kcmp = libc::SYS_kcmp,
        init_module = libc::SYS_init_module, finit_module = libc::SYS_finit_module,
        delete_module = libc::SYS_delete_module, kexec_load = libc::SYS_kexec_load,
        kexec_file_load = libc::SYS_kexec_file_load, reboot = libc::SYS_reboot, swapon = libc::SYS_swapon,
        swapoff = libc::SYS_swapoff, acct = libc::SYS_acct, quotactl = libc::SYS_quotactl,
        quotactl_fd = libc::SYS_quotactl_fd, syslog = libc::SYS_syslog, chroot = libc::SYS_chroot,
        fanotify_init = libc::SYS_fanotify_init, name_to_handle_at = libc::SYS_name_to_handle_at,
        lookup_dcookie = libc::SYS_lookup_dcookie, vhangup = libc::SYS_vhangup, nfsservctl = libc::SYS_nfsservctl,
        settimeofday = libc::SYS_settimeofday, clock_settime = libc::SYS_clock_settime,
        clock_adjtime = libc::SYS_clock_adjtime, socket = libc::SYS_socket, socketpair = libc::SYS_socketpair,
        memfd_create = libc::SYS_memfd_create, memfd_secret = libc::SYS_memfd_secret,
        personality = libc::SYS_personality, openat = libc::SYS_openat, openat2 = libc::SYS_openat2,
        mkdirat = libc::SYS_mkdirat, mknodat = libc::SYS_mknodat, unlinkat = libc::SYS_unlinkat,
        renameat2 = libc::SYS_renameat2, renameat = libc::SYS_renameat, linkat = libc::SYS_linkat,
        symlinkat = libc::SYS_symlinkat, truncate = libc::SYS_truncate, fchmodat = libc::SYS_fchmodat,
        connect = libc::SYS_connect, shmget = libc::SYS_shmget, shmat = libc::SYS_shmat, shmctl = libc::SYS_shmctl,
        msgget = libc::SYS_msgget, msgctl = libc::SYS_msgctl, msgsnd = libc::SYS_msgsnd, msgrcv = libc::SYS_msgrcv,
        semget = libc::SYS_semget, semctl = libc::SYS_semctl, semop = libc::SYS_semop,
        semtimedop = libc::SYS_semtimedop, mq_open = libc::SYS_mq_open, mq_unlink = libc::SYS_mq_unlink,
        fchmod = libc::SYS_fchmod, fchmodat2 = 452, fchown = libc::SYS_fchown, fchownat = libc::SYS_fchownat,
        utimensat = libc::SYS_utimensat, setxattr = libc::SYS_setxattr, lsetxattr = libc::SYS_lsetxattr,
        fsetxattr = libc::SYS_fsetxattr, setxattrat = 463, removexattr = libc::SYS_removexattr,
        lremovexattr = libc::SYS_lremovexattr, fremovexattr = libc::SYS_fremovexattr, removexattrat = 466,
        setpriority = libc::SYS_setpriority, process_madvise = libc::SYS_process_madvise,
        prlimit64 = libc::SYS_prlimit64,
        sched_setscheduler = libc::SYS_sched_setscheduler,
        sched_setparam = libc::SYS_sched_setparam,
        sched_setattr = libc::SYS_sched_setattr,
        sched_setaffinity = libc::SYS_sched_setaffinity,
        ioprio_set = libc::SYS_ioprio_set,
        migrate_pages = libc::SYS_migrate_pages,
        move_pages = libc::SYS_move_pages;
        x86_64
        iopl = libc::SYS_iopl, ioperm = libc::SYS_ioperm, modify_ldt = libc::SYS_modify_ldt,
        uselib = libc::SYS_uselib, open = libc::SYS_open, creat = libc::SYS_creat, mkdir = libc::SYS_mkdir,
        rmdir = libc::SYS_rmdir, mknod = libc::SYS_mknod, unlink = libc::SYS_unlink, rename = libc::SYS_rename,
        link = libc::SYS_link, symlink = libc::SYS_symlink, chmod = libc::SYS_chmod, create_module = 174,
        _sysctl = libc::SYS__sysctl, chown = libc::SYS_chown, lchown = libc::SYS_lchown, utime = libc::SYS_utime,
        utimes = libc::SYS_utimes, futimesat = libc::SYS_futimesat);
}

/// What a refused call fails with.
pub(super) mod errnos {
    pub(in crate::seccomp) const EPERM: u32 = libc::EPERM.unsigned_abs();
    pub(in crate::seccomp) const EACCES: u32 = libc::EACCES.unsigned_abs();
    pub(in crate::seccomp) const ENOSYS: u32 = libc::ENOSYS.unsigned_abs();
    pub(in crate::seccomp) const EAFNOSUPPORT: u32 = libc::EAFNOSUPPORT.unsigned_abs();
    pub(in crate::seccomp) const EPROTONOSUPPORT: u32 = libc::EPROTONOSUPPORT.unsigned_abs();
    pub(in crate::seccomp) const EOPNOTSUPP: u32 = libc::EOPNOTSUPP.unsigned_abs();
}
