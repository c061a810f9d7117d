"""What is known of a teacher: who is asked, and in which order."""

from __future__ import annotations

from dataclasses import replace

from dynadfq.zoo import architectures as zoo
from dynadfq.zoo.facts import TeacherFacts, resolve
from dynadfq.zoo.metadata import Metadata


def teacher_facts(
    architecture: str,
    given: Metadata,
    data_set: Metadata | None,
    published_weights: bool,
    image_size: int | None = None,
) -> TeacherFacts:
    """What a teacher reads and tells apart, of all that params.yaml leaves open.

    The library is asked first about weights it published, and the data set first about any others:
    those were trained on it, or will be.

    Args:
        given: what params.yaml says.
        data_set: what the labelled data set knows; None where there is none.
        image_size: side in pixels in place of the one that library or data set know.

    Raises:
        ValueError: a fact is missing or does not fit, or the data set's classes are not the
            teacher's.
    """
    library = zoo.metadata(architecture)
    order = (library, data_set) if published_weights else (data_set, library)
    sources = [source for source in order if source is not None]
    if image_size is not None and given.input_shape is None:
        channels = next((source.input_shape[0] for source in sources if source.input_shape), 3)
        given = replace(given, input_shape=(channels, image_size, image_size))
    facts = resolve(given, sources)
    if data_set is not None and data_set.num_classes not in (None, facts.num_classes):
        raise ValueError(
            f"data.name: {data_set.origin} has {data_set.num_classes} classes and the teacher {facts.num_classes} "
            f"({facts.origins['num_classes']}); take the data set it was trained for, or null"
        )
    return facts
