//! Flow control: credit, priority lanes, and the pace of sending.

pub mod credit;
pub mod lanes;
pub mod pace;
