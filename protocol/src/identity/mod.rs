//! Who is who: sites and their keys, enrolment codes, signed links.

pub mod enrolment;
pub mod link_target;
pub mod signed_link;
pub mod site;
