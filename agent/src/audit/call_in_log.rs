//! How calls are named in the program's log.

use std::sync::LazyLock;

use audiovault_protocol::recording::call::log_name;

/// What stands for a call in the log: the same in all lines of a run. An id would outlive what is erased of the call from the audit log, since
/// the log is kept by others; to look for a request, use its id, which is in both.
pub(crate) fn call_in_log(call_id: &str) -> String {
    static KEY: LazyLock<[u8; 32]> = LazyLock::new(rand::random);
    log_name(&*KEY, call_id)
}
