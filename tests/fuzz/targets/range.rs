//! A `Range` header of any client with a link: a range is inside the file, and the `Content-Range` of it selects it
//! again.

#![no_main]

use audiovault_agent_core::range::{Selection, select};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|request: (u64, &str)| {
    let (size, header) = request;
    let Selection::Part { first, last } = select(header, size) else { return };
    assert!(first <= last && last < size);
    assert_eq!(select(&format!("bytes={first}-{last}"), size), Selection::Part { first, last });
    if last == size - 1 {
        assert_eq!(select(&format!("bytes={first}-"), size), Selection::Part { first, last });
        assert_eq!(select(&format!("bytes=-{}", size - first), size), Selection::Part { first, last });
    }
});
