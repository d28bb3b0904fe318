//! Sells what was ordered: at once, or as a job.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use minijinja::value::Value;

use super::Simulation;
use super::job::{End, Job, billed_on_submission};
use super::serve::Call;
use super::sheet::Route;
use super::webhook::Callback;
use super::wording::{self, Facts, Shown};
use crate::fault::Fault;
use crate::files::Stored;
use crate::picture::{Look, Picture};
use crate::problem::Problem;
use crate::sale::{self, Complaint, Order, Reply, Sold, Voice};
use crate::script::Plan;
use crate::shop::Shop;
use crate::stats::Visit;

impl Call {
    /// Sells pictures that are answered at once.
    pub(super) async fn sell(self, route: &Route, order: Order, visit: Visit) -> Result<Response, Problem> {
        let simulation = Arc::clone(&self.simulation);
        let name = self.facts.get("id").map(Value::to_string).unwrap_or_default();
        let (shop, base, facts) = (Arc::clone(&self.shop), self.base.clone(), self.facts.clone());
        let voice = Wording { simulation: Arc::clone(&simulation), facts: self.facts, in_job: false };
        sale::sell(&self.shop, visit, order, &voice, |Sold { order, invoice, pictures, plan }| {
            let mut facts = facts;
            facts.insert("pictures", show(&shop, &simulation, &base, &name, order, plan, pictures));
            facts.insert("invoice", Value::from(invoice));
            let refusal = plan.outcome.as_ref().and_then(|fault| simulation.refusal(fault, false));
            let answer = match &refusal {
                Some((way, refusal)) => {
                    facts.insert("refusal", Value::from(*way));
                    &refusal.answer
                }
                None if plan.outcome.as_ref().is_some_and(is_refusal) => {
                    return Ok(Reply::Whole(StatusCode::BAD_REQUEST, HeaderMap::new(), Vec::new()));
                }
                None => wording::choose(simulation.answers(route), &facts)?,
            };
            wording::reply(answer, StatusCode::OK, &facts, pictures.first())
        })
        .await
    }

    /// Accepts a job, or does not.
    pub(super) async fn submit(
        mut self,
        route: &Route,
        order: Order,
        callback: Option<Callback>,
        visit: Visit,
    ) -> Result<Response, Problem> {
        let simulation = Arc::clone(&self.simulation);
        let plan = sale::plan(&self.shop, &order)?;
        let voice = Wording { simulation: Arc::clone(&simulation), facts: self.facts.clone(), in_job: true };
        let (end, bills) = match &plan.outcome {
            Some(fault) if is_refusal(fault) => match simulation.refusal(fault, true) {
                Some((way, refusal)) if refusal.in_job => (End::Refused(way), voice.bills(fault)),
                Some((way, refusal)) => {
                    if voice.bills(fault) {
                        sale::bill(&self.shop, &order).await?;
                    }
                    self.facts.insert("refusal", Value::from(way));
                    let reply = wording::reply(&refusal.answer, StatusCode::OK, &self.facts, None)?;
                    return Ok(sale::deliver(reply, &plan, Duration::ZERO, visit));
                }
                None => return sale::instead(fault, &voice).await,
            },
            Some(fault @ (Fault::FailJob | Fault::BillThenFailJob)) => (End::Failed, voice.bills(fault)),
            Some(Fault::ForgetJob) => (End::Forgotten, true),
            Some(fault) if !fault.is_billed() => {
                sale::wait(plan.latency).await;
                return sale::instead(fault, &voice).await;
            }
            _ => (End::Done, true),
        };
        // Where the answer is lost, the bill must be there when the caller looks.
        let lost = plan.outcome.as_ref().is_some_and(replaces_submission);
        let invoice = match bills && (lost || billed_on_submission(&simulation)) {
            true => Some(sale::bill(&self.shop, &order).await?),
            false => None,
        };
        let job = self.accept(order, plan.clone(), (end, bills), invoice, callback);
        if let Some(fault) = plan.outcome.as_ref().filter(|fault| replaces_submission(fault)) {
            return sale::instead(fault, &voice).await;
        }
        let mut facts = self.facts;
        let queued = BTreeMap::from([("id", Value::from(job.id.as_str())), ("state", Value::from("queued"))]);
        facts.insert("job", Value::from(queued));
        facts.insert("invoice", Value::from(invoice.unwrap_or_default()));
        let answer = wording::choose(simulation.answers(route), &facts)?;
        Ok(sale::deliver(wording::reply(answer, StatusCode::OK, &facts, None)?, &plan, Duration::ZERO, visit))
    }

    fn accept(
        &self,
        order: Order,
        plan: Plan,
        (end, bills): (End, bool),
        invoice: Option<u64>,
        callback: Option<Callback>,
    ) -> Arc<Job> {
        let id = self.facts.get("id").map(Value::to_string).unwrap_or_default();
        let time = self.shop.latency() + plan.latency;
        let mut job = Job::new((order, plan), end, (Arc::clone(&self.simulation), id), time);
        job.bills = bills;
        job.facts = self.facts.clone();
        job.base.clone_from(&self.base);
        job.callback = callback;
        let job = Arc::new(job);
        if let Some(invoice) = invoice {
            job.billed(invoice);
        }
        self.shop.counters.accept();
        self.shop.jobs.accept(Arc::clone(&job));
        self.shop.tasks.spawn(Arc::clone(&job).run(Arc::clone(&self.shop), time));
        job
    }
}

/// The pictures as templates see them; each gets an address.
pub(super) fn show(
    shop: &Shop,
    simulation: &Simulation,
    base: &str,
    name: &str,
    order: &Order,
    plan: &Plan,
    pictures: &[Picture],
) -> Value {
    let sheet = &simulation.sheet;
    let shown = pictures.iter().enumerate().map(|(index, picture)| {
        let file = format!("{}-{name}-{index}.{}", sheet.name, picture.format().name());
        let stored = Stored::new(picture.clone(), plan).needing_key(sheet.files_need_key);
        shop.files.put(file.clone(), stored);
        Value::from_object(Shown {
            picture: picture.clone(),
            url: format!("{base}/files/{file}"),
            name: file,
            index,
            width: order.width,
            height: order.height,
            seed: seed(order).saturating_add(i64::try_from(index).unwrap_or(0)),
        })
    });
    Value::from_iter(shown)
}

/// The seed that was asked for, or the one that the provider rolled.
pub(super) fn seed(order: &Order) -> i64 {
    order.seed.unwrap_or_else(|| 1000 + i64::from(Look::motif(&order.model, &order.prompt, None)))
}

fn is_refusal(fault: &Fault) -> bool {
    matches!(fault, Fault::Refuse(_) | Fault::RefuseOk | Fault::StreamRefuse)
}

/// Whether a billed fault puts something else in the place of the answer to a submission.
fn replaces_submission(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::BillThenFail(_)
            | Fault::BillThenHang
            | Fault::BillThenReset
            | Fault::BillThenStreamError
            | Fault::Html
            | Fault::GarbageJson
    )
}

/// The voice of a simulation.
struct Wording {
    simulation: Arc<Simulation>,
    facts: Facts,
    /// Whether the sale is one of a job.
    in_job: bool,
}

impl Voice for Wording {
    fn complain(&self, complaint: Complaint) -> Response {
        wording::complain(&self.simulation.sheet, complaint, &self.facts)
    }

    fn bills(&self, fault: &Fault) -> bool {
        let billing = &self.simulation.sheet.billing;
        match fault {
            fault if is_refusal(fault) => {
                let refusal = self.simulation.refusal(fault, self.in_job);
                refusal.and_then(|(_, refusal)| refusal.billed).unwrap_or(billing.refused)
            }
            Fault::FailJob => billing.failed,
            fault => fault.is_billed(),
        }
    }

    fn renders_refusals(&self) -> bool {
        true
    }
}
