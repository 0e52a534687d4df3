"""The words that the glossary has retired, for prose and for identifiers."""

from __future__ import annotations

from typing import Final

#: Phrases of prose, as regular expressions. Ordinary English stays allowed.
RETIRED_PHRASES: Final = (
    r"(?:br(?:ing|ings|ought)|c(?:ome|omes|ame)|taken?|takes?|took) (?:back|up)\b",
    r"(?:put|puts|goes|go|gone|give|gives|giving|given|gave) (?:back|up)\b",
    r"(?:go|goes|going|gone|went) on\b",
    r"(?:catch(?:es)?|caught) up\b",
    r"put(?:s|ting)? right\b",
    r"hand(?:s|ed)? (?:on|over)\b",
    r"(?:begin|begins|beginning|began|begun)\b",
    r"(?:tell|tells|told)\b",
    r"(?:batch|batches|one|ones|those) (?:around|inside|below|behind)\b",
    r"(?:outer|deeper)\b",
    r"(?:draw|draws|drawn|drew)\b",
    r"(?:remove|removes|removed|removing)\b",
    r"(?:stale|alike|restless)\b",
    r"(?:portion|portions)\b",
    r"(?:refuse|refuses|refused|refusal)\b",
    r"(?:mend|mends|mended)\b",
    r"(?:whoever|somebody|nobody)\b",
    r"look(?:s|ed|ing)? (?:at|after)\b",
    r"(?:break|breaks|broke|broken) off\b",
    r"(?<!round )trips?\b",
    r"way out\b",
    r"stands? for\b",
)

#: Words of identifiers, between underscores or capitals.
RETIRED_WORDS: Final = frozenset(
    [
        "abandon",
        "alike",
        "around",
        "began",
        "begin",
        "begins",
        "begun",
        "behind",
        "below",
        "bring",
        "brings",
        "deeper",
        "desk",
        "draw",
        "drawn",
        "draws",
        "family",
        "inside",
        "kept",
        "lay",
        "lineage",
        "looked",
        "looks",
        "mend",
        "mended",
        "mends",
        "nobody",
        "orphan",
        "orphans",
        "outer",
        "patience",
        "patient",
        "portion",
        "portions",
        "refusal",
        "refuse",
        "refused",
        "refuses",
        "restless",
        "said",
        "somebody",
        "stale",
        "tell",
        "tells",
        "told",
        "trip",
        "unfit",
        "untold",
        "whoever",
    ]
)

#: Combinations of words in identifiers. `at_rest` is the one use of "rest".
RETIRED_NAMES: Final = (
    r"(?:^|(?<!at)_)rest(?![a-z])",
    r"(?:go|goes|going|gone|hand|hands|went)_on(?![a-z])",
    r"(?:break|breaks|broke|broken)_off(?![a-z])",
    r"(?:catch|catches)_up(?![a-z])",
    r"(?:brings?|brought|comes?|came|gives?|given|gave|go|goes|gone|puts?)_(?:back|up|out)(?![a-z])",
    r"(?:takes?|taken|took)_(?:back|up|out)(?![a-z])",
    r"put_right|hand_over|way_out",
)

#: Public names that stay: they are the names of exceptions.
KEPT_NAMES: Final = frozenset({"PayloadRefused"})
