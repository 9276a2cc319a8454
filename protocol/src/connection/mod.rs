//! A client's connection beneath TLS and HTTP, as relay and agent take it: it has a place among all connections ([`crate::gate`]), it ends
//! when nothing has come of it for long, and every request on it knows what its socket has taken.

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
use crate::gate::Knock;

/// Puts a meter around a connection that was judged, and around the service that answers its requests. `tls` says whether TLS is spoken
/// above. What is answered on a connection beyond a limit that is told so, `beyond` says.
///
/// # Errors
/// When the connection is refused without a word, or its socket has failed.
pub fn open<S, B>(
    stream: TcpStream,
    knock: Knock,
    tls: bool,
    service: S,
    beyond: BeyondLimit<B>,
) -> io::Result<(Metered<TcpStream>, Metering<S, B>)> {
    let (place, over) = match knock {
        Knock::Welcome(place) => (place, None),
        Knock::Told(place, over) => (place, Some(over)),
        Knock::Refused => return Err(io::Error::other("too many connections are open")),
    };
    // A head must not wait for the acknowledgement of the previous answer.
    stream.set_nodelay(true)?;
    let meter = Arc::new(ConnectionMeter::new(tls));
    let stream = Metered::new(stream, Arc::clone(&meter), Some(place));
    if over.is_some() {
        // The room beyond a limit is small: it is for those who ask at once.
        meter.finish();
    }
    Ok((stream, Metering::new(service, meter, over, beyond)))
}
