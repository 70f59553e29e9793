//! The vectors of one namespace, side by side.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::{Hit, Metric, nearest_of};

/// So many vectors are copied where one of them changes while a search looks at them.
const CHUNK: usize = 128;

/// Vectors with their ids. A clone is a snapshot, and costs next to nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows(Vec<Arc<Chunk>>);

#[derive(Debug, Clone, Default)]
struct Chunk {
    ids: Vec<Arc<str>>,
    /// Of one vector after the other.
    numbers: Vec<f32>,
}

impl Chunk {
    fn vectors(&self) -> impl Iterator<Item = (&Arc<str>, &[f32])> {
        let dimensions = self.numbers.len().checked_div(self.ids.len()).unwrap_or(0).max(1);
        self.ids.iter().zip(self.numbers.chunks_exact(dimensions))
    }

    /// Takes the last vector out.
    fn pop(&mut self) -> Option<(Arc<str>, Vec<f32>)> {
        let dimensions = self.numbers.len().checked_div(self.ids.len())?;
        let id = self.ids.pop()?;
        Some((id, self.numbers.split_off(self.numbers.len() - dimensions)))
    }
}

impl Rows {
    /// How many vectors there are.
    pub(crate) fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * CHUNK + last.ids.len())
    }

    /// All of them.
    pub(crate) fn vectors(&self) -> impl Iterator<Item = (&Arc<str>, &[f32])> {
        self.0.iter().flat_map(|chunk| chunk.vectors())
    }

    /// The nearest to `vector` of those that count, nearest first.
    pub(crate) fn nearest(
        &self,
        metric: Metric,
        vector: &[f32],
        among: Option<&HashSet<String>>,
        most: usize,
        within: Option<f64>,
    ) -> Vec<Hit> {
        let mut found: Vec<(f64, &Arc<str>)> = Vec::new();
        // What is not nearer than the last of those found need not be kept.
        let mut limit = within.unwrap_or(f64::INFINITY);
        let counts = |id: &str| among.is_none_or(|among| among.contains(id));
        for (id, other) in self.vectors().filter(|(id, _)| counts(id)) {
            let distance = metric.distance(vector, other);
            if distance > limit {
                continue;
            }
            found.push((distance, id));
            if found.len() >= most.saturating_mul(2).max(64) {
                found.select_nth_unstable_by(most, |(one, _), (other, _)| one.total_cmp(other));
                limit = found.get(most).map_or(limit, |(distance, _)| *distance);
                // Those as far as the last one stay: their ids decide.
                found.retain(|(distance, _)| *distance <= limit);
            }
        }
        let hit = |(distance, id): (f64, &Arc<str>)| Hit { id: id.to_string(), distance };
        nearest_of(found.into_iter().map(hit).collect(), most, within)
    }
}

/// The vectors of one namespace, and where each of them stands.
#[derive(Debug, Default)]
pub(crate) struct Space {
    rows: Arc<Rows>,
    places: HashMap<Arc<str>, usize>,
}

impl Space {
    /// The vectors as they are now.
    pub(crate) fn rows(&self) -> Arc<Rows> {
        Arc::clone(&self.rows)
    }

    /// How many numbers each vector has; 0 where there is none.
    pub(crate) fn dimensions(&self) -> usize {
        self.rows.vectors().next().map_or(0, |(_, vector)| vector.len())
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.places.contains_key(id)
    }

    /// Keeps a vector, which is as long as the others; `false` where it took another's place.
    pub(crate) fn put(&mut self, id: &str, vector: &[f32]) -> bool {
        if let Some(place) = self.places.get(id) {
            self.write(*place, vector);
            return false;
        }
        let id: Arc<str> = id.into();
        let place = self.rows.len();
        let chunks = &mut Arc::make_mut(&mut self.rows).0;
        if place.is_multiple_of(CHUNK) {
            chunks.push(Arc::default());
        }
        if let Some(chunk) = chunks.last_mut().map(Arc::make_mut) {
            chunk.ids.push(Arc::clone(&id));
            chunk.numbers.extend_from_slice(vector);
        }
        self.places.insert(id, place);
        true
    }

    fn write(&mut self, place: usize, vector: &[f32]) {
        let rows = Arc::make_mut(&mut self.rows);
        if let Some(chunk) = rows.0.get_mut(place / CHUNK).map(Arc::make_mut) {
            let start = place % CHUNK * vector.len();
            if let Some(numbers) = chunk.numbers.get_mut(start..start + vector.len()) {
                numbers.copy_from_slice(vector);
            }
        }
    }

    /// Forgets a vector: the last one takes its place. `false` where there was none.
    pub(crate) fn delete(&mut self, id: &str) -> bool {
        let Some(place) = self.places.remove(id) else { return false };
        let chunks = &mut Arc::make_mut(&mut self.rows).0;
        let popped = chunks.last_mut().and_then(|last| Arc::make_mut(last).pop());
        if chunks.last().is_some_and(|last| last.ids.is_empty()) {
            chunks.pop();
        }
        if let Some((last, vector)) = popped
            && *last != *id
        {
            if let Some(chunk) = chunks.get_mut(place / CHUNK).map(Arc::make_mut)
                && let Some(id) = chunk.ids.get_mut(place % CHUNK)
            {
                *id = Arc::clone(&last);
            }
            self.places.insert(last, place);
            self.write(place, &vector);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By definition: all distances in double precision, sorted.
    fn brute_force(metric: Metric, all: &HashMap<String, Vec<f32>>, to: &[f32]) -> Vec<(String, f64)> {
        let distance = |vector: &[f32]| {
            let pairs = || vector.iter().zip(to).map(|(a, b)| (f64::from(*a), f64::from(*b)));
            let length = |of: &[f32]| of.iter().map(|a| f64::from(*a).powi(2)).sum::<f64>().sqrt();
            match metric {
                Metric::Euclidean => pairs().map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt(),
                Metric::Cosine => {
                    let lengths = length(vector) * length(to);
                    if lengths > 0.0 { 1.0 - pairs().map(|(a, b)| a * b).sum::<f64>() / lengths } else { 1.0 }
                }
            }
        };
        let mut all: Vec<_> = all.iter().map(|(id, vector)| (id.clone(), distance(vector))).collect();
        all.sort_by(|one, other| one.1.total_cmp(&other.1));
        all
    }

    #[derive(Debug, Clone)]
    enum Step {
        Put(u16, Vec<f32>),
        Delete(u16),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let vector = prop::collection::vec(-1.0f32..1.0, 3);
        let step = prop_oneof![
            4 => (0u16..400, vector).prop_map(|(id, vector)| Step::Put(id, vector)),
            1 => (0u16..400).prop_map(Step::Delete),
        ];
        prop::collection::vec(step, 0..700)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_found_is_the_nearest(
            steps in steps(),
            to in prop::collection::vec(-1.0f32..1.0, 3),
            most in 1usize..20,
            within in prop::option::of(0.0f64..1.5),
            cosine in any::<bool>(),
            among in prop::option::of(prop::collection::hash_set((0u16..400).prop_map(|id| id.to_string()), 0..40)),
        ) {
            let metric = if cosine { Metric::Cosine } else { Metric::Euclidean };
            let (mut space, mut all) = (Space::default(), HashMap::new());
            for step in steps {
                match step {
                    Step::Put(id, vector) => {
                        let id = id.to_string();
                        let new = space.put(&id, &metric.kept(&vector));
                        prop_assert_eq!(all.insert(id, vector).is_none(), new);
                    }
                    Step::Delete(id) => {
                        let id = id.to_string();
                        prop_assert_eq!(space.delete(&id), all.remove(&id).is_some());
                    }
                }
            }
            prop_assert_eq!(space.rows().len(), all.len());
            let found = space.rows().nearest(metric, &metric.kept(&to), among.as_ref(), most, within);
            all.retain(|id, _| among.as_ref().is_none_or(|among| among.contains(id)));
            let expected = brute_force(metric, &all, &to);
            // Where distances differ by less than single precision tells, either order is right.
            let near = |one: f64, other: f64| (one - other).abs() < 1e-4;
            for hit in &found {
                let (_, distance) = expected.iter().find(|(id, _)| *id == hit.id).unwrap();
                prop_assert!(near(*distance, hit.distance));
                prop_assert!(within.is_none_or(|within| hit.distance <= within));
            }
            for (hit, (_, distance)) in found.iter().zip(&expected) {
                prop_assert!(near(hit.distance, *distance));
            }
            let surely = expected.iter().filter(|(_, distance)| within.is_none_or(|within| *distance < within - 1e-4));
            prop_assert!(found.len() >= surely.count().min(most));
            prop_assert!(found.len() <= most);
        }
    }

    #[test]
    fn a_search_goes_on_with_what_was_there_when_it_began() {
        let mut space = Space::default();
        (0..300).for_each(|id: u32| {
            space.put(&id.to_string(), &[id as f32]);
        });
        let before = space.rows();
        space.put("299", &[0.0]);
        (0..200u32).for_each(|id| assert!(space.delete(&id.to_string())));
        let ids = |rows: &Rows| -> Vec<String> {
            rows.nearest(Metric::Euclidean, &[0.0], None, 2, None).into_iter().map(|hit| hit.id).collect()
        };
        assert_eq!((before.len(), ids(&before)), (300, vec!["0".to_owned(), "1".to_owned()]));
        assert_eq!((space.rows().len(), ids(&space.rows())), (100, vec!["299".to_owned(), "200".to_owned()]));
    }
}
