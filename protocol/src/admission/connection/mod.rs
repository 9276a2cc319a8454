//! A client's connection below TLS and HTTP, as relay and agent handle it.
//!
//! It has a place among all connections ([`crate::admission::gate`]), it ends when it was idle for too long, and every request on
//! it knows how many bytes the socket has accepted.

mod held;
mod meter;
mod metered;
mod metering;

use std::{io, sync::Arc};

use tokio::net::TcpStream;

pub use self::{
    held::HeldBody,
    meter::{ConnectionMeter, UnderWay},
    metered::Metered,
    metering::{BeyondLimit, Metering},
};
use crate::admission::gate::Admission;

/// Puts a meter around a connection that the gate has decided about, and around the service that answers its requests.
/// `tls` says whether the client speaks TLS on it. `beyond` says what is answered on a connection that is above a limit
/// and gets an answer.
///
/// # Errors
/// If the gate refused the connection without an answer, or its socket has failed.
pub fn open<S, B>(
    stream: TcpStream,
    admission: Admission,
    tls: bool,
    service: S,
    beyond: BeyondLimit<B>,
) -> io::Result<(Metered<TcpStream>, Metering<S, B>)> {
    let (permit, exceeded) = match admission {
        Admission::Admitted(permit) => (permit, None),
        Admission::Answered(permit, exceeded) => (permit, Some(exceeded)),
        Admission::Refused => return Err(io::Error::other("too many connections are open")),
    };
    // A response head must not wait for the acknowledgement of the previous response.
    stream.set_nodelay(true)?;
    let meter = Arc::new(ConnectionMeter::new(tls));
    let stream = Metered::new(stream, Arc::clone(&meter), Some(permit));
    if exceeded.is_some() {
        // The room above a limit is small: it is for clients that send their request at once.
        meter.finish();
    }
    Ok((stream, Metering::new(service, meter, exceeded, beyond)))
}
