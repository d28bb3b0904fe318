//! Requests that are made a second time by another model, for the operator to compare. Nobody waits for these pictures
//! and nobody gets them; they are paid for and ledgered like any other.

use std::sync::Arc;

use super::{Landed, Order, Pipeline};
use crate::domain::{Call, Leg, Price, Stage, Usd};
use crate::route::fortune;

impl Pipeline {
    /// Has the request made once more by the route's shadow, if it has one and it is this request's turn. What is asked
    /// for decides, so that a repetition is no second sample. A shadow has none, whatever route it comes to.
    pub(super) fn shadow(self: &Arc<Self>, order: &Order, landed: &Landed) {
        let is_shadow = order.call.leg.is_some_and(|leg| leg.stage == Stage::Shadow);
        let is_due = !is_shadow && !landed.made.is_empty();
        let Some(shadow) = order.plan.settings.shadow.as_ref().filter(|_| is_due) else { return };
        if fortune("shadow", &order.call) % 100 >= u64::from(shadow.percent) {
            return;
        }
        let leg = Leg {
            stage: Stage::Shadow,
            parent: Some(order.call.id),
            at_once: false,
            seed: order.call.leg.and_then(|leg| leg.seed),
            final_price: Price::Unknown,
            taken_back: Usd::ZERO,
        };
        let call = Call {
            id: self.new_request_id(),
            model: Some(shadow.model.clone()),
            route: None,
            stream: None,
            deadline: None,
            explain: false,
            leg: Some(leg),
            ..order.call.clone()
        };
        let (this, of) = (Arc::clone(self), order.call.id);
        self.tracker.spawn(async move {
            let request = call.id;
            // Boxed, because it is the whole pipeline once more.
            if let Err(error) = Box::pin(this.run(call, None)).await {
                tracing::info!(%request, %of, %error, "a shadow could not be made");
            }
        });
    }
}
