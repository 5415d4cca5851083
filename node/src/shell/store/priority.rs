//! Who gives way when processors are short: the threads that feed and compact the engine.
//!
//! No answer waits for them, and they work for seconds at a time. At equal priority each takes as
//! much of a processor as the shard and the committer, and a write waits behind their slices at each
//! of its steps. They keep a share: were they starved, the table would fill and writes wait for them.

use rustix::process::setpriority_process;
use rustix::thread::gettid;

/// How nice they are: about a tenth of the weight of an ordinary thread.
const NICE: i32 = 10;

/// Lowers the priority of the calling thread, and of those that it starts from now on.
pub(super) fn give_way() {
    // Where the system refuses, all threads are equal: slower at the tail, and as safe.
    let _asked = setpriority_process(Some(gettid()), NICE);
}
