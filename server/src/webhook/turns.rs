//! Who is told next: a few attempts of each webhook and of each tenant at once, and one tenant after the other.
//!
//! Apart and pure, because a tenant chooses whom it has told and how long they take to answer: whoever lets every attempt
//! hang until its end must hold up no other tenant's. Invariant: no webhook has more than [`OF_WEBHOOK`] attempts under
//! way in this process, and no tenant more than [`OF_TENANT`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;

use protocol::TenantId;

use crate::store::sqlite::webhooks::Due;

/// Attempts of one webhook under way at once.
pub(crate) const OF_WEBHOOK: usize = 4;
/// Attempts of one tenant under way at once: a quarter of all.
const OF_TENANT: usize = 8;

/// The attempts under way, and whose turn it was last.
#[derive(Debug, Default)]
pub(super) struct Turns {
    of_webhook: HashMap<String, usize>,
    of_tenant: HashMap<TenantId, usize>,
    last: Option<TenantId>,
}

impl Turns {
    /// Which of `due` are tried now, `most` at the most: how many deliveries of which webhook.
    pub(super) fn choose(&mut self, due: Vec<Due>, most: usize) -> BTreeMap<String, usize> {
        let mut queues: BTreeMap<TenantId, VecDeque<Due>> = BTreeMap::new();
        for mut one in due {
            let under_way = self.of_webhook.get(&one.webhook_id).copied().unwrap_or(0);
            one.deliveries = one.deliveries.min(OF_WEBHOOK.saturating_sub(under_way));
            if one.deliveries > 0 {
                queues.entry(one.tenant.clone()).or_default().push_back(one);
            }
        }
        let mut left: HashMap<TenantId, usize> = HashMap::new();
        for tenant in queues.keys() {
            let under_way = self.of_tenant.get(tenant).copied().unwrap_or(0);
            left.insert(tenant.clone(), OF_TENANT.saturating_sub(under_way));
        }
        let mut chosen: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..most {
            queues.retain(|tenant, queue| !queue.is_empty() && left.get(tenant) > Some(&0));
            let Some(tenant) = self.next(&queues) else {
                break;
            };
            if let Some(left) = left.get_mut(&tenant) {
                *left -= 1;
            }
            // The tenant's own webhooks take turns too.
            if let Some(queue) = queues.get_mut(&tenant)
                && let Some(mut one) = queue.pop_front()
            {
                *chosen.entry(one.webhook_id.clone()).or_default() += 1;
                one.deliveries -= 1;
                if one.deliveries > 0 {
                    queue.push_back(one);
                }
            }
            self.last = Some(tenant);
        }
        chosen
    }

    /// An attempt starts.
    pub(super) fn start(&mut self, webhook_id: &str, tenant: &TenantId) {
        *self.of_webhook.entry(webhook_id.to_owned()).or_default() += 1;
        *self.of_tenant.entry(tenant.clone()).or_default() += 1;
    }

    /// An attempt is over.
    pub(super) fn end(&mut self, webhook_id: &str, tenant: &TenantId) {
        if let Some(under_way) = self.of_webhook.get_mut(webhook_id) {
            *under_way = under_way.saturating_sub(1);
        }
        if let Some(under_way) = self.of_tenant.get_mut(tenant) {
            *under_way = under_way.saturating_sub(1);
        }
        self.of_webhook.retain(|_, under_way| *under_way > 0);
        self.of_tenant.retain(|_, under_way| *under_way > 0);
    }

    fn next(&self, queues: &BTreeMap<TenantId, VecDeque<Due>>) -> Option<TenantId> {
        let following = self.last.as_ref().and_then(|last| {
            let rest = (Bound::Excluded(last), Bound::Unbounded);
            queues.range::<TenantId, _>(rest).next()
        });
        let next = following.or_else(|| queues.iter().next());
        next.map(|(tenant, _)| tenant.clone())
    }
}

#[cfg(test)]
mod tests {
    use protocol::TenantId;

    use super::{Due, Turns};

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).expect("a tenant")
    }

    fn due(tenant_id: &str, webhook: &str) -> Due {
        Due {
            webhook_id: webhook.to_owned(),
            tenant: tenant(tenant_id),
            deliveries: 4,
        }
    }

    #[test]
    fn a_tenant_whose_attempts_hang_leaves_places_to_the_others() {
        let mut turns = Turns::default();
        let greedy: Vec<_> = (0..20).map(|it| due("a", &format!("a{it}"))).collect();
        let first = turns.choose(greedy.clone(), 32);
        assert_eq!(first.values().sum::<usize>(), 8);
        for (webhook, count) in &first {
            for _ in 0..*count {
                turns.start(webhook, &tenant("a"));
            }
        }
        assert!(turns.choose(greedy.clone(), 24).is_empty());
        let both = [greedy, vec![due("b", "b0")]].concat();
        let second = turns.choose(both, 24);
        assert_eq!(second.into_iter().collect::<Vec<_>>(), [("b0".into(), 4)]);
        for (webhook, count) in &first {
            for _ in 0..*count {
                turns.end(webhook, &tenant("a"));
            }
        }
        assert!(turns.of_webhook.is_empty() && turns.of_tenant.is_empty());
    }

    #[test]
    fn one_webhook_gets_four_places_and_its_neighbours_theirs() {
        let mut turns = Turns::default();
        for _ in 0..4 {
            turns.start("a0", &tenant("a"));
        }
        let chosen = turns.choose(vec![due("a", "a0"), due("a", "a1")], 32);
        assert_eq!(chosen.into_iter().collect::<Vec<_>>(), [("a1".into(), 4)]);
    }

    #[test]
    fn where_one_place_is_free_each_tenant_gets_it_in_turn() {
        let mut turns = Turns::default();
        let all = vec![due("a", "a0"), due("b", "b0"), due("c", "c0")];
        let order: Vec<_> = (0..4)
            .flat_map(|_| turns.choose(all.clone(), 1).into_keys())
            .collect();
        assert_eq!(order, ["a0", "b0", "c0", "a0"]);
    }
}
