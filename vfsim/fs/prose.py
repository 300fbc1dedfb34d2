"""The sentences of the document about names, inodes, superblocks, open files, file locks and quota,
as rules.

P rules stand in the document's prose, E rules in v4.10's code and comments only.  ``status`` says
what vfsim makes of one: *enforced* as it stands, *adapted* where the code knows better, *soft* (a
goal without a hard limit: where it is looked at, who misses it gets a warning), *permission* (a
checker must not complain), *info* (nothing to check), *stale*.  ``why`` says what is looked at, or
why the status.  What is checked on the spot is declared in `vfsim.fs.operations`, with the rule's
id.
"""

from __future__ import annotations

from vfsim.checks.rules import rule

_CHANGES = ("create", "link", "unlink", "symlink", "mkdir", "rmdir", "mknod", "rename")
_LOOKS = ("lookup", "atomic_open")


def _of(table: str, *methods: str) -> list[str]:
    return [f"{table}.{m}" for m in methods]


# -- walks, directories ----------------------------------------------------------------------------

rule(
    "P1",
    "Where blocking is allowed in ref-walk only, a call that carries the rcu flag must not sleep; "
    "the flag says truly whether the walk is an rcu-walk.",
    *_of("dentry_operations", "d_revalidate", "d_manage"),
    why="during: no sleep with the flag set; entry: the flag equals an RCU read section of the "
    "caller",
)
rule(
    "P2",
    "permission must not sleep when it is called in rcu-walk; ECHILD makes the walk come back with "
    "references.",
    "inode_operations.permission",
    why="the mask's MAY_NOT_BLOCK tells; no system call answers ECHILD; get_link with dentry None "
    "is the same case, see E1",
)
rule(
    "P3",
    "rmdir, unlink and rename run with the victim's own i_mutex held besides the parents'.",
    *_of("inode_operations", "unlink", "rmdir", "rename"),
    why="the victim is the inode of the dentry that goes, or of an existing rename target; with "
    "RENAME_EXCHANGE only what is no directory is locked, as in the code",
)
rule(
    "P4",
    "A rename between two directories holds the superblock's rename lock.",
    "inode_operations.rename",
    why="s_vfs_rename_mutex is its name in the code; a rename inside one directory neither needs "
    "nor takes it",
)
rule(
    "P5",
    "All inode operations and xattr handlers may block, so they are called where sleeping is "
    "allowed.",
    "inode_operations.*",
    "xattr_handler.*",
    why="except the rcu-walk cases P2 and E1",
)
rule(
    "P6",
    "All super operations may block, which the document itself calls not true.",
    "super_operations.*",
    status="adapted",
    why="checked for all but drop_inode; bdev_try_to_free_page follows its gfp",
)
rule(
    "P7",
    "drop_inode runs under the inode's i_lock: held at entry and at exit, no sleep in between.",
    "super_operations.drop_inode",
)
rule(
    "P8",
    "show_options has namespace_sem, and not s_umount.",
    "super_operations.show_options",
    why="at least shared",
)
rule(
    "P9",
    "statfs has s_umount shared when ustat(2) calls it, and does not have it otherwise.",
    "super_operations.statfs",
    why="who called is told by the stack: ustat(2), or statfs(2) and fstatfs(2); never exclusive",
)
rule(
    "P10",
    "Without s_umount, the path or open file that was resolved pins the superblock for the whole "
    "statfs.",
    "super_operations.statfs",
    why="the superblock is still active when the method returns",
)
rule(
    "P11",
    "quota_read and quota_write are alone on the quota file, by dqio_sem.",
    *_of("super_operations", "quota_read", "quota_write"),
    why="dqio_sem is held at entry; reading the header when quota is turned on is exempt",
)
rule(
    "P12",
    "bdev_try_to_free_page is reached only from releasepage of a block device's pages.",
    "super_operations.bdev_try_to_free_page",
    why="the page is locked; looked at once something calls it",
)

# -- filesystem types ------------------------------------------------------------------------------

rule("P13", "mount returns the root dentry or an error, never nothing.", "file_system_type.mount")
rule(
    "P14",
    "After a mount that succeeded, the superblock is locked; after one that failed, nothing is.",
    "file_system_type.mount",
    why="the task holds s_umount of the returned root's superblock, exclusive",
)
rule("P15", "kill_sb receives the superblock write-locked.", "file_system_type.kill_sb")
rule(
    "P16",
    "kill_sb shuts the superblock down, unlocks it and drops its reference.",
    "file_system_type.kill_sb",
    why="at exit s_umount is not held, the superblock has no root and is off the list of its type, "
    "and put_super has run; the last reference is dropped by the caller, as in the code",
)

# -- file locks ------------------------------------------------------------------------------------

rule(
    "P53",
    "fl_release_private of a flock or POSIX lock may block.",
    "file_lock_operations.fl_release_private",
    why="so it is called where sleeping is allowed",
)
rule(
    "P54",
    "fl_release_private of a lease must not block: leases may be freed with the lock held.",
    "file_lock_operations.fl_release_private",
)
rule(
    "P55",
    "lm_compare_owner and lm_owner_key have some inode's lock, not necessarily one of their "
    "arguments'.",
    *_of("lock_manager_operations", "lm_compare_owner", "lm_owner_key"),
    why="any lock of the class flc_lock will do",
)
rule(
    "P56",
    "In deadlock detection they have blocked_lock_lock as well.",
    *_of("lock_manager_operations", "lm_compare_owner", "lm_owner_key"),
)
rule(
    "P57",
    "While those locks are held, the file locks being compared stay alive.",
    *_of("lock_manager_operations", "lm_compare_owner", "lm_owner_key"),
    why="an argument that is freed meanwhile is a use after free",
)

# -- open files ------------------------------------------------------------------------------------

rule(
    "P65",
    "All file operations may block, so they are called where sleeping is allowed.",
    "file_operations.*",
)
rule(
    "P66",
    "llseek gets no lock from the VFS: one that is not generic_file_llseek locks for itself.",
    "file_operations.llseek",
    why="the caller does not hold i_rwsem, so that it can be taken; a race on i_size is for the "
    "race checks",
)
rule(
    "P67",
    "That locking does not protect f_pos against concurrent changes; user space sees to it.",
    "file_operations.llseek",
    status="permission",
    why="a race on f_pos between calls is nobody's bug; newer kernels "
    "serialise regular files with f_pos_lock",
)
rule("P68", "fasync keeps the FASYNC bit of the file's flags as asked.", "file_operations.fasync")
rule("P69", "What fasync returns above 0 becomes 0 in the VFS.", "file_operations.fasync")
rule(
    "P70",
    "readdir and ioctl on directories ought to be redesigned.",
    "file_operations.iterate",
    status="info",
    why="a wish",
)
rule(
    "P71",
    "Who changes prototypes or protocols updates the document.",
    status="info",
    why="a duty of developers; the tables here are compared with the document by a test",
)
rule(
    "P72",
    "read on a directory should go: read(2) gives EISDIR.",
    "file_operations.read",
    status="soft",
    why="a directory's read is generic_read_dir, which raises it",
)
rule(
    "P73",
    "setlease calls generic_setlease, before or after it sets the lease in the filesystem.",
    "file_operations.setlease",
    why="exactly once in a call that succeeds",
)

# -- quota -----------------------------------------------------------------------------------------

_WRAPPERS = ("write_dquot", "acquire_dquot", "release_dquot", "write_info")
rule(
    "P74",
    "A dquot operation takes what locks the filesystem needs and calls the generic operation.",
    *_of("dquot_operations", *_WRAPPERS),
    why="once in a call that succeeds",
)
rule(
    "P75",
    "Those that may recurse may call quota_read and quota_write; mark_dirty does not.",
    "dquot_operations.*",
    *_of("super_operations", "quota_read", "quota_write"),
    status="adapted",
    why="with journalled quota the filesystem may write the dquot from mark_dirty, and says so",
)
rule(
    "P76",
    "The locks that the table lists are held when the generic code calls these methods.",
    *_of("dquot_operations", *_WRAPPERS),
    why="vfsim's quota core has them, as the document says; v4.10's has not",
)

# -- what only the code says -----------------------------------------------------------------------

rule(
    "E1",
    "get_link with dentry None is a call in rcu-walk: no sleep; ECHILD asks for references.",
    "inode_operations.get_link",
)
rule("E2", "get_acl is never called in rcu-walk.", "inode_operations.get_acl")
rule(
    "E3",
    "Two lookups of one name in one directory never run at the same time.",
    *_of("inode_operations", *_LOOKS),
    why="the dcache lets one caller look, the others wait",
)
rule(
    "E4",
    "iterate has the directory's i_rwsem, and the directory is not dead.",
    "file_operations.iterate",
)
rule(
    "E5",
    "Nothing is looked up, created or removed in a directory that was removed.",
    *_of("inode_operations", *_LOOKS, *_CHANGES),
    why="S_DEAD is looked at under the directory's lock",
)
rule(
    "E6",
    "Whoever changes the filesystem holds the write level against freezing, taken before i_rwsem.",
    *_of("inode_operations", *_CHANGES, "setattr", "tmpfile"),
    "xattr_handler.set",
    *_of("file_operations", "write", "write_iter", "fallocate"),
    why="the task's held stack: the level is on it, and below the i_rwsem; for files, if they are "
    "regular",
)
rule(
    "E8",
    "Freezing goes through its levels in order; freeze_fs and unfreeze_fs see the right one.",
    *_of("super_operations", "freeze_fs", "unfreeze_fs"),
    why="all levels are held exclusive by the task, and s_writers.frozen says FS or COMPLETE; that "
    "s_umount is not held while the write level drains is a matter of lock order",
)
rule(
    "E9",
    "No page is dirty when freeze_fs is called, and none becomes dirty until the thaw.",
    *_of("super_operations", "freeze_fs", "unfreeze_fs"),
    why="no mapping has a dirty tag at entry and exit of freeze_fs and at entry of unfreeze_fs",
)
rule(
    "E10",
    "evict_inode sees I_FREEING without I_SYNC and leaves exactly I_FREEING and I_CLEAR.",
    "super_operations.evict_inode",
)
rule(
    "E11",
    "drop_inode sees no reference left and an inode that is not I_NEW.",
    "super_operations.drop_inode",
)
rule(
    "E12", "write_inode runs with I_SYNC set, one writer per inode.", "super_operations.write_inode"
)
rule(
    "E13",
    "Syncing or writing back a superblock needs s_umount, in any mode.",
    "super_operations.sync_fs",
    why="asked by the functions themselves",
)
rule(
    "E18",
    "f_pos_lock is taken for shared regular files and directories only, outside of i_rwsem.",
    *_of("file_operations", "read", "write", "llseek", "iterate"),
    why="the order of lock classes",
)
rule(
    "E22",
    "Who meets a delegation waits for its end after all i_rwsem are dropped.",
    *_of("inode_operations", "unlink", "rename", "link", "setattr"),
    why="looked at once leases exist",
)
rule(
    "E23",
    "The last reference of an unlinked file is put after the parent's i_rwsem was released.",
    "super_operations.evict_inode",
    why="no unlinking caller's lock is held while blocks are freed",
)
rule(
    "E24",
    "destroy_inode does not free memory that rcu-walks may still look at.",
    "super_operations.destroy_inode",
    why="it is still there when the method returns: freed by call_rcu(), for instance",
)
rule(
    "E25",
    "d_prune has the d_lock of the dentry and of its parent, and the inode's i_lock.",
    "dentry_operations.d_prune",
)
