//! How many guests a request has come through, so that services that call one another for ever come to an end.
//!
//! The count travels beside the request, as an extension: there is nothing a guest could set, drop or read. It holds
//! from guest to guest within this process; what leaves by a socket begins anew.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use wasmtime_wasi_http::WasiBody;

/// The most guests a request may come through, one calling the next.
const MOST: usize = 16;

/// Of one request. The default is that of a request from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hops(usize);

impl Hops {
    /// Those a request has behind it.
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        request.extensions().get().copied().unwrap_or_default()
    }

    /// Those of a request that is made to answer this one; None if that would be one too many.
    pub(crate) fn next(self) -> Option<Self> {
        (self.0 < MOST).then_some(Self(self.0 + 1))
    }
}

/// What the guest gets instead of an answer that would take one too many.
pub(crate) fn too_many() -> Response<WasiBody> {
    let text = format!(
        "this request has come through {MOST} services or containers, one calling the next, which is the most there \
         may be: does one of them call itself?\n"
    );
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::LOOP_DETECTED;
    response
}

/// The requests an instance is answering. Which of them an outgoing request is for can't be told when there are
/// several: then it counts as that which has come the shortest way, so that no call is refused for another's sake.
#[derive(Debug, Default)]
pub(crate) struct Answering {
    /// How many requests there are of each count.
    requests: [usize; MOST + 1],
    /// Of the request that began last: a guest may go on when it has answered.
    last: Hops,
}

impl Answering {
    pub(crate) fn begin(&mut self, hops: Hops) {
        self.requests[hops.0] += 1;
        self.last = hops;
    }

    pub(crate) fn end(&mut self, hops: Hops) {
        self.requests[hops.0] = self.requests[hops.0].saturating_sub(1);
    }

    /// What an outgoing request made now has behind it.
    pub(crate) fn hops(&self) -> Hops {
        self.requests.iter().position(|&count| count > 0).map_or(self.last, Hops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_calls_has_an_end() {
        let chain = std::iter::successors(Some(Hops::default()), |hops| hops.next());
        assert_eq!(chain.count(), MOST + 1);
    }

    #[test]
    fn a_call_counts_as_the_request_with_the_shortest_way() {
        let mut answering = Answering::default();
        assert_eq!(answering.hops(), Hops(0), "a command answers none");
        answering.begin(Hops(5));
        assert_eq!(answering.hops(), Hops(5));
        answering.begin(Hops(2));
        assert_eq!(answering.hops(), Hops(2));
        answering.begin(Hops(MOST));
        answering.end(Hops(2));
        assert_eq!(answering.hops(), Hops(5));
        answering.end(Hops(5));
        answering.end(Hops(MOST));
        assert_eq!(answering.hops(), Hops(MOST), "it goes on when it has answered");
    }
}
