//! How far two vectors are apart.

/// How the distance of two vectors is measured (Kong 3.11: `vectordb.distance_metric`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// One less the cosine of their angle: 0 for the same direction, 1 for a right angle, 2 for opposite ones.
    Cosine,
    /// Length of the line between them.
    Euclidean,
}

impl Metric {
    /// Name of it, as far as keys and tables need one.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Euclidean => "euclidean",
        }
    }

    /// A vector as it is kept, so that [`Metric::distance`] has the least to do: of length one where only its
    /// direction counts.
    pub(crate) fn kept(self, vector: &[f32]) -> Vec<f32> {
        match self {
            Self::Euclidean => vector.to_vec(),
            Self::Cosine => {
                let squares: f64 = vector.iter().map(|number| f64::from(*number).powi(2)).sum();
                let length = squares.sqrt();
                // What has no direction is at a right angle to everything.
                let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
                vector.iter().map(|number| (f64::from(*number) * scale) as f32).collect()
            }
        }
    }

    /// The distance of two vectors that are kept.
    pub(crate) fn distance(self, one: &[f32], other: &[f32]) -> f64 {
        match self {
            // Less than nothing where numbers are rounded.
            Self::Cosine => (1.0 - f64::from(sum(one, other, |a, b| a * b))).max(0.0),
            Self::Euclidean => f64::from(sum(one, other, |a, b| (a - b) * (a - b))).sqrt(),
        }
    }
}

/// Numbers that are added up side by side: as many as a processor takes at once.
const LANES: usize = 16;

/// The sum of what each pair makes, in the order in which a processor does it fastest.
#[inline(always)]
fn sum(one: &[f32], other: &[f32], each: impl Fn(f32, f32) -> f32) -> f32 {
    let (ones, ones_rest) = one.as_chunks::<LANES>();
    let (others, others_rest) = other.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for (one, other) in ones.iter().zip(others) {
        for ((lane, one), other) in lanes.iter_mut().zip(one).zip(other) {
            *lane += each(*one, *other);
        }
    }
    let rest: f32 = ones_rest.iter().zip(others_rest).map(|(one, other)| each(*one, *other)).sum();
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same by definition, in double precision.
    fn exact(metric: Metric, one: &[f32], other: &[f32]) -> f64 {
        let pairs = || one.iter().zip(other).map(|(a, b)| (f64::from(*a), f64::from(*b)));
        match metric {
            Metric::Euclidean => pairs().map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt(),
            Metric::Cosine => {
                let dot: f64 = pairs().map(|(a, b)| a * b).sum();
                let length = |of: &[f32]| of.iter().map(|a| f64::from(*a).powi(2)).sum::<f64>().sqrt();
                let lengths = length(one) * length(other);
                if lengths > 0.0 { 1.0 - dot / lengths } else { 1.0 }
            }
        }
    }

    #[test]
    fn what_the_metrics_measure() {
        let distance =
            |metric: Metric, a: &[f32], b: &[f32]| metric.distance(&metric.kept(a), &metric.kept(b));
        for (a, b, cosine, euclidean) in [
            ([3.0, 4.0], [6.0, 8.0], 0.0, 5.0),
            ([1.0, 0.0], [0.0, 1.0], 1.0, 2f64.sqrt()),
            ([2.0, 0.0], [-1.0, 0.0], 2.0, 3.0),
            ([0.0, 0.0], [1.0, 0.0], 1.0, 1.0),
        ] {
            assert!((distance(Metric::Cosine, &a, &b) - cosine).abs() < 1e-6, "{a:?} {b:?}");
            assert!((distance(Metric::Euclidean, &a, &b) - euclidean).abs() < 1e-6, "{a:?} {b:?}");
        }
    }

    proptest! {
        #[test]
        fn distances_are_those_of_the_definition(pairs in prop::collection::vec((-1.0f32..1.0, -1.0f32..1.0), 1..200)) {
            let (one, other): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            for metric in [Metric::Cosine, Metric::Euclidean] {
                let measured = metric.distance(&metric.kept(&one), &metric.kept(&other));
                let defined = exact(metric, &one, &other);
                prop_assert!((measured - defined).abs() < 1e-4, "{metric:?}: {measured} {defined}");
            }
        }
    }
}
