//! Sound that browsers cannot play, as sound that they can.

pub mod gsm;
