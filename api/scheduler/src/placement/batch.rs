//! The choice among nodes, for any number of tasks that need the same.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use coracle_types::{BinpackField, NodeId, PlacementStrategy, SpreadField};

use super::need::Need;
use super::rooms::{Rank, Rooms, node_takes_tasks};
use super::shortage::Unplaceable;
use crate::rng::PlanRng;

/// Tasks that need the same, to be placed one after the other.
#[derive(Debug)]
pub struct Batch {
    need: Need,
    /// Tasks of the group on each node.
    counts: HashMap<NodeId, usize>,
    choice: Choice,
}

#[derive(Debug)]
enum Choice {
    /// Any node with room will do: the zone with the fewest tasks of the group, then the order of free memory.
    Plain {
        /// Tasks of the group in each zone.
        zones: Vec<usize>,
    },
    /// Constraints and strategies have a say.
    Scored(Scored),
}

/// Candidates in buckets: nodes that the leading spreads leave equal share one.
#[derive(Debug)]
struct Scored {
    buckets: Vec<Bucket>,
    /// Tasks of the group below each prefix of a bucket's path.
    totals: BTreeMap<Vec<String>, usize>,
    /// Whether a spread over an attribute comes after something else, so that one placement changes the score
    /// of other nodes.
    entangled: bool,
}

#[derive(Debug)]
struct Bucket {
    /// The values of the attributes of the leading spreads.
    path: Vec<String>,
    nodes: BTreeSet<(Score, usize)>,
}

/// The order of the nodes in a bucket; the order of the fields is the order of what matters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    /// What the strategies after the leading spreads say, in their sequence; less is better.
    strategies: Vec<u64>,
    default: Rank,
}

impl Rooms<'_> {
    /// Begins to place tasks that need the same.
    #[must_use]
    pub fn batch(&self, need: Need, rng: &mut PlanRng) -> Batch {
        let counts = if need.is_plain() && (!need.spread_by_default || self.zones() < 2) {
            HashMap::new()
        } else {
            self.counts(&need)
        };
        let choice = if need.is_plain() {
            let mut zones = vec![0; self.zones()];
            for (&node, count) in &counts {
                if let Some(zone) = self.zone_of(node) {
                    zones[zone] += count;
                }
            }
            Choice::Plain { zones }
        } else {
            Choice::Scored(Scored::of(self, &need, &counts, rng))
        };
        Batch { need, counts, choice }
    }
}

impl Batch {
    /// Places one more task: takes what it needs from a node, and says which node, and which incarnation of it.
    ///
    /// # Errors
    /// What each node is short of.
    pub fn place(&mut self, rooms: &mut Rooms<'_>, rng: &mut PlanRng) -> Result<(NodeId, u64), Unplaceable> {
        self.try_place(rooms, rng).ok_or_else(|| rooms.explain(&self.need, &self.counts))
    }

    /// As [`Batch::place`], for those who do not want to know why.
    pub fn try_place(&mut self, rooms: &mut Rooms<'_>, rng: &mut PlanRng) -> Option<(NodeId, u64)> {
        let place = match &mut self.choice {
            Choice::Plain { zones } => plain(rooms, &self.need, zones),
            Choice::Scored(scored) => scored.choose(rooms, &self.need, &self.counts),
        }?;
        let taken = rooms.take(place, &self.need);
        *self.counts.entry(taken.0).or_default() += 1;
        match &mut self.choice {
            Choice::Plain { zones } => {
                if let Some(zone) = rooms.zone_of(taken.0).filter(|_| self.need.spread_by_default) {
                    zones[zone] += 1;
                }
            }
            Choice::Scored(scored) => scored.note(rooms, &self.need, &self.counts, place, rng),
        }
        Some(taken)
    }
}

fn plain(rooms: &mut Rooms<'_>, need: &Need, zones: &[usize]) -> Option<usize> {
    let mut order: Vec<usize> = (0..zones.len()).collect();
    if need.spread_by_default {
        order.sort_by_key(|&zone| zones[zone]);
        return order.into_iter().find_map(|zone| first_fit(rooms, need, zone));
    }
    // Without a spread the best node of all zones goes first.
    let found = order.into_iter().filter_map(|zone| first_fit(rooms, need, zone)).collect::<Vec<_>>();
    found.into_iter().min_by_key(|&place| rooms.room(place).rank())
}

fn first_fit(rooms: &mut Rooms<'_>, need: &Need, zone: usize) -> Option<usize> {
    if need.ports.is_empty() {
        return rooms.ranked(zone, need.memory).filter_map(|node| rooms.place_of(node)).find(|&place| {
            let room = rooms.room(place);
            room.cpu >= need.cpu && room.node.serves(&need.cluster) && rooms.obstacle(place, need).is_none()
        });
    }
    let ranked: Vec<NodeId> = rooms.ranked(zone, need.memory).collect();
    ranked.into_iter().filter_map(|node| rooms.place_of(node)).collect::<Vec<_>>().into_iter().find(
        |&place| {
            rooms.room(place).node.serves(&need.cluster)
                && rooms.obstacle(place, need).is_none()
                && rooms.shortage(place, need, 0).is_none()
        },
    )
}

impl Scored {
    fn of(rooms: &Rooms<'_>, need: &Need, counts: &HashMap<NodeId, usize>, rng: &mut PlanRng) -> Self {
        let spreads = need.leading_spreads();
        let later = need.later_strategies();
        let entangled = later
            .iter()
            .any(|strategy| matches!(strategy, PlacementStrategy::Spread(SpreadField::Attribute(_))));
        let mut scored = Self { buckets: Vec::new(), totals: BTreeMap::new(), entangled };
        let mut by_path: BTreeMap<Vec<String>, BTreeSet<(Score, usize)>> = BTreeMap::new();
        let path_of = |place: usize| -> Vec<String> {
            let node = &rooms.room(place).node;
            spreads.iter().map(|name| node.attribute(name).unwrap_or_default().to_owned()).collect()
        };
        for (&node, &count) in counts {
            if let Some(place) = rooms.place_of(node) {
                scored.add(&path_of(place), count);
            }
        }
        let spread = SpreadCounts::of(rooms, later, counts);
        for place in 0..rooms.len() {
            let node = &rooms.room(place).node;
            if node_takes_tasks(node) && node.serves(&need.cluster) && rooms.obstacle(place, need).is_none() {
                let score = score(rooms, later, counts, &spread, place, rng);
                by_path.entry(path_of(place)).or_default().insert((score, place));
            }
        }
        scored.buckets = by_path.into_iter().map(|(path, nodes)| Bucket { path, nodes }).collect();
        scored
    }

    /// Counts tasks of the group below each prefix of a path.
    fn add(&mut self, path: &[String], count: usize) {
        for depth in 1..=path.len() {
            *self.totals.entry(path[..depth].to_vec()).or_default() += count;
        }
    }

    /// The node the next task goes to. Nodes that have no room leave their bucket: room only shrinks.
    fn choose(
        &mut self,
        rooms: &mut Rooms<'_>,
        need: &Need,
        counts: &HashMap<NodeId, usize>,
    ) -> Option<usize> {
        loop {
            let totals = &self.totals;
            let fullness = |bucket: &Bucket| -> Vec<usize> {
                (1..=bucket.path.len())
                    .map(|depth| totals.get(&bucket.path[..depth]).copied().unwrap_or(0))
                    .collect()
            };
            let buckets = self.buckets.iter_mut().filter(|bucket| !bucket.nodes.is_empty());
            let bucket = buckets.min_by_key(|bucket| fullness(bucket))?;
            while let Some((_, place)) = bucket.nodes.first() {
                let place = *place;
                let of_group = counts.get(&rooms.room(place).node.id).copied().unwrap_or(0);
                if rooms.shortage(place, need, of_group).is_none() {
                    return Some(place);
                }
                bucket.nodes.pop_first();
            }
        }
    }

    /// Takes in that a task was placed.
    fn note(
        &mut self,
        rooms: &Rooms<'_>,
        need: &Need,
        counts: &HashMap<NodeId, usize>,
        placed: usize,
        rng: &mut PlanRng,
    ) {
        let Some(chosen) = self
            .buckets
            .iter()
            .position(|bucket| bucket.nodes.first().is_some_and(|(_, place)| *place == placed))
        else {
            // It was found in a bucket's first place, so it is still there.
            return;
        };
        let path = self.buckets[chosen].path.clone();
        self.add(&path, 1);
        let later = need.later_strategies();
        let spread = SpreadCounts::of(rooms, later, counts);
        let mut rescore = |nodes: &mut BTreeSet<(Score, usize)>, all: bool| {
            let first = nodes.pop_first().map(|(_, place)| place);
            let rest = if all { std::mem::take(nodes) } else { BTreeSet::new() };
            for place in rest.into_iter().map(|(_, place)| place).chain(first) {
                nodes.insert((score(rooms, later, counts, &spread, place, rng), place));
            }
        };
        if self.entangled {
            self.buckets.iter_mut().for_each(|bucket| rescore(&mut bucket.nodes, true));
        } else {
            rescore(&mut self.buckets[chosen].nodes, false);
        }
    }
}

/// Tasks of the group by the value of an attribute, for spreads that come after something else.
struct SpreadCounts<'s>(HashMap<&'s str, HashMap<String, u64>>);

impl<'s> SpreadCounts<'s> {
    fn of(rooms: &Rooms<'_>, later: &'s [PlacementStrategy], counts: &HashMap<NodeId, usize>) -> Self {
        let mut spreads = HashMap::new();
        for strategy in later {
            let PlacementStrategy::Spread(SpreadField::Attribute(name)) = strategy else { continue };
            let by_value: &mut HashMap<String, u64> = spreads.entry(name.as_str()).or_default();
            for (&node, &count) in counts {
                if let Some(place) = rooms.place_of(node) {
                    let value = rooms.room(place).node.attribute(name).unwrap_or_default().to_owned();
                    *by_value.entry(value).or_default() += u64::try_from(count).unwrap_or(u64::MAX);
                }
            }
        }
        Self(spreads)
    }
}

fn score(
    rooms: &Rooms<'_>,
    later: &[PlacementStrategy],
    counts: &HashMap<NodeId, usize>,
    spread: &SpreadCounts<'_>,
    place: usize,
    rng: &mut PlanRng,
) -> Score {
    let room = rooms.room(place);
    let strategies = later.iter().map(|strategy| match strategy {
        PlacementStrategy::Spread(SpreadField::Instance) => {
            counts.get(&room.node.id).map_or(0, |&count| u64::try_from(count).unwrap_or(u64::MAX))
        }
        PlacementStrategy::Spread(SpreadField::Attribute(name)) => {
            let by_value = spread.0.get(name.as_str());
            let value = room.node.attribute(name).unwrap_or_default();
            by_value.and_then(|by_value| by_value.get(value)).copied().unwrap_or(0)
        }
        PlacementStrategy::Binpack(BinpackField::Cpu) => u64::from(room.cpu),
        PlacementStrategy::Binpack(BinpackField::Memory) => u64::from(room.memory),
        PlacementStrategy::Random => rng.choice(),
    });
    let mut default = room.rank();
    if later.iter().any(|strategy| matches!(strategy, PlacementStrategy::Binpack(_))) {
        // Who packs wants the fuller one of two nodes.
        default.memory = Reverse(u32::MAX - room.memory);
        default.cpu = Reverse(u32::MAX - room.cpu);
    }
    Score { strategies: strategies.collect(), default }
}
