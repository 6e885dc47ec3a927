"""Procedural prompts in the tasks' form: choose a listed label, copy, select, change characters, rewrite.

Every operation draws its parameters and returns a definition with a sampler of `(input, output)` pairs, so that the
same operation can be shown with one example or with several. The material is the corpus alone. The operations of the
bank's tasks (first or last item, second letter, spelling out, capitalising, sums, articles, ...) are left out.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator

Sampler = Callable[[], tuple[str, str]]
Operation = Callable[[random.Random, "Material"], tuple[str, Sampler]]

TEXT_KINDS = {
    "books": ["novel", "book", "old story", "fiction"],
    "children_stories": ["children's story", "tale for children"],
    "command_pages": ["computer help", "command manual", "software"],
    "dialogues_coffee": ["coffee order", "coffee shop talk"],
    "dialogues_services": ["assistant dialogue", "customer service", "service talk"],
    "dictionary": ["dictionary", "word meaning"],
    "math_word_problems": ["arithmetic problem", "school maths", "sums"],
    "movie_reviews": ["film review", "film critique", "cinema"],
    "speeches": ["political speech", "politics", "address"],
    "wiki_sentences": ["encyclopedia", "reference article"],
    "world_facts": ["country facts", "geography notes", "nation profile"],
}
FIELDS: dict[str, list[str]] = {
    "city": "Boston Lagos Vienna Kyoto Denver Lima Oslo Cairo Toronto Dublin Madrid Sydney Prague Chicago".split(),
    "food": "pasta|fried rice|tomato soup|noodles|pancakes|roast lamb|salad|apple pie|curry|tacos|dumplings".split("|"),
    "colour": "red green blue yellow purple orange grey brown black white pink silver".split(),
    "object": "lamp|wooden chair|bicycle|phone|winter coat|clock|umbrella|guitar|suitcase|camera|blanket".split("|"),
    "day": "Monday|Tuesday|Wednesday|Thursday|Friday|next week|tomorrow|the 3rd of May|June 12|Sunday morning".split(
        "|"
    ),
    "time": "5 pm|half past six|noon|9:30|11 am|a quarter to eight|midnight|7 in the evening|14:15".split("|"),
    "job": "teacher nurse farmer lawyer baker engineer painter pilot driver clerk".split(),
    "number": "two|three|four|five|six|seven|12|15|20|36|48|100".split("|"),
    "animal": "dog horse rabbit parrot goat duck tiger whale".split(),
}
TEMPLATES = [
    "{name} from {city} would like {food} for {number} people at {time}.",
    "please send the {colour} {object} to {name} in {city} by {day}",
    "On {day} I meet {name}, the {job}, at {time}.",
    "my {colour} {object} broke on {day}, can {name} fix it?",
    "{name} sold {number} of the {object} in {city} last year.",
    "remind me at {time} to buy {food} for {name}",
    "The {animal} of {name} sleeps near the {colour} {object}.",
    "we need {number} tickets to {city} for {day}",
    "{name} wants to work as a {job} in {city}",
    "order {number} portions of {food} and a {object}",
    "is there a {job} in {city} who is free on {day} at {time}?",
    "They paid {name} for the {object} and the {animal}.",
    "could you wake {name} at {time} on {day}",
    "I saw a {colour} {animal} in {city} and {number} others",
]


def _listed(labels: list[str], rng: random.Random) -> str:
    """The labels as a definition lists them: 'a, b, c' or 'a, b or c'."""
    if rng.random() < 0.5 or len(labels) < 2:
        return ", ".join(labels)
    return ", ".join(labels[:-1]) + " or " + labels[-1]


def _ask(what: str, labels: list[str], rng: random.Random) -> str:
    listed = _listed(labels, rng)
    return rng.choice(
        [
            f"Choose the {what}: {listed}.",
            f"Which {what} fits: {listed}?",
            f"Name the {what}: {listed}.",
            f"What is the {what}: {listed}?",
            f"Answer with the {what}, one of {listed}.",
            f"Is the {what} {listed}?",
        ]
    )


class Material:
    """Sentences, words, names and glosses of the corpus, from which the operations draw."""

    def __init__(self, corpus: dict[str, list[str]], rng: random.Random) -> None:
        self.rng = rng
        self.passages: dict[str, list[str]] = {}
        counts: Counter[str] = Counter()
        names: Counter[str] = Counter()
        sentences = []
        for kind, documents in corpus.items():
            if kind not in TEXT_KINDS:
                continue
            lines = [line for document in documents for line in document.split("\n") if len(line.split()) >= 4]
            rng.shuffle(lines)
            kept = [" ".join(line.split()[:24]) for line in lines[:12000]]
            self.passages[kind] = kept
            for line in kept:
                counts.update(re.findall(r"\b[a-z]{3,10}\b", line))
                names.update(re.findall(r"(?<=[a-z] )[A-Z][a-z]{2,9}\b", line))
                sentences += [s for s in re.split(r"(?<=[.?!])\s+", line) if 5 <= len(s.split()) <= 18]
        self.sentences = sentences
        self.words = [word for word, _ in counts.most_common(9000)]
        self.content = self.words[150:]
        self.names = [name for name, _ in names.most_common(900)]
        self.common = set(self.words[:150])
        self.glosses = [
            match.groups()
            for document in corpus["dictionary"]
            for match in re.finditer(r"(?m)^([a-z]{3,12}) \((\w+)\): ([^.]{12,90})\.", document)
        ]
        self.examples = [
            match.groups()
            for document in corpus["dictionary"]
            for match in re.finditer(r"(?m)^([a-z]{3,12}) \(\w+\): .*?Example: ([^.]{12,90})\.", document)
        ]

    def sentence(self) -> str:
        return self.rng.choice(self.sentences)

    def sentence_of_content(self) -> tuple[str, list[str]]:
        """A sentence with at least one content word, and its content words."""
        while not (found := self.content_words(text := self.sentence())):
            pass
        return text, found

    def word(self) -> str:
        return self.rng.choice(self.content)

    def distinct(self, count: int) -> list[str]:
        return self.rng.sample(self.content, count)

    def content_words(self, text: str) -> list[str]:
        return [w for w in dict.fromkeys(re.findall(r"\b[a-z]{3,}\b", text)) if w not in self.common]


# ---- choose among listed labels -------------------------------------------------------------------------------------


def choose_by_overlap(rng: random.Random, m: Material) -> tuple[str, Sampler]:
    """Labels are one to three words of a sentence each: the label whose words the text shares is the answer."""
    pairs: dict[str, str] = {}
    wanted = rng.randint(2, 12)
    while len(pairs) < wanted:
        text = m.sentence()
        found = m.content_words(text)
        if len(found) >= 2:
            start = rng.randrange(len(found))
            pairs[" ".join(found[start : start + rng.randint(1, 3)])] = text
    labels = list(pairs)
    if rng.random() < 0.5:
        labels.sort()
    what = rng.choice(["topic", "subject", "reason", "request", "group", "label", "theme", "aim of the message"])
    definition = _ask(what, labels, rng)

    def sample() -> tuple[str, str]:
        label = rng.choice(labels)
        tokens = pairs[label].split()
        if len(label.split()) > 1 and rng.random() < 0.5:  # one of the label's words may be missing
            missing = rng.choice(label.split())
            tokens = [t for t in tokens if missing not in t.lower()]
        return " ".join(tokens), label

    return definition, sample


def choose_kind_of_text(rng: random.Random, m: Material) -> tuple[str, Sampler]:
    kinds = rng.sample(sorted(TEXT_KINDS), rng.randint(2, 6))
    names = {kind: rng.choice(TEXT_KINDS[kind]) for kind in kinds}
    definition = _ask(rng.choice(["kind of text", "source", "origin", "type of writing"]), list(names.values()), rng)

    def sample() -> tuple[str, str]:
        kind = rng.choice(kinds)
        return rng.choice(m.passages[kind]), names[kind]

    return definition, sample


def choose_word_for_gloss(rng: random.Random, m: Material) -> tuple[str, Sampler]:
    chosen = {word: gloss for word, _, gloss in rng.sample(m.glosses, rng.randint(2, 8))}
    definition = _ask(rng.choice(["word for the meaning", "word that is described", "term"]), list(chosen), rng)

    def sample() -> tuple[str, str]:
        word = rng.choice(list(chosen))
        return chosen[word], word

    return definition, sample


def choose_word_for_example(rng: random.Random, m: Material) -> tuple[str, Sampler]:
    chosen = dict(rng.sample(m.examples, rng.randint(2, 8)))
    definition = _ask(rng.choice(["word that is used", "theme", "topic", "keyword"]), list(chosen), rng)

    def sample() -> tuple[str, str]:
        word = rng.choice(list(chosen))
        return chosen[word], word

    return definition, sample


def choose_gap(rng: random.Random, m: Material) -> tuple[str, Sampler]:
    def sample() -> tuple[str, str]:
        text, found = m.sentence_of_content()
        word = rng.choice(found)
        options = [word, *m.distinct(rng.randint(1, 4))]
        rng.shuffle(options)
        return f"{', '.join(options)} | {re.sub(rf'{word}', '...', text, count=1)}", word

    return rng.choice(["Choose the word for the gap.", "Which of the words fills the gap in the text?"]), sample


def choose_mentioned(rng: random.Random, m: Material) -> tuple[str, Sampler]:
    def sample() -> tuple[str, str]:
        text, found = m.sentence_of_content()
        word = rng.choice(found)
        options = [word, *m.distinct(rng.randint(1, 5))]
        rng.shuffle(options)
        return f"{', '.join(options)} | {text}", word

    return rng.choice(["Which word of the list is in the text?", "Find the listed word that the text has."]), sample


def yes_no(rng: random.Random, m: Material) -> tuple[str, Sampler]:
    rule = rng.choice(["word", "same", "gloss", "order", "number", "name"])
    word = m.word()
    question = {
        "word": "Is the word before the bar in the text behind it?",
        "same": "Are the two texts the same?",
        "gloss": "Does the meaning fit the word?",
        "order": "Are the words of the sentence in their right order?",
        "number": "Does the text have a digit in it?",
        "name": "Does the text begin with a capital letter?",
    }[rule]

    def sample() -> tuple[str, str]:
        positive = rng.random() < 0.5
        text = m.sentence()
        if rule == "word":
            found = m.content_words(text) or [word]
            text = f"{rng.choice(found) if positive else m.word()} | {text}"
        elif rule == "same":
            text = f"{text} | {text if positive else m.sentence()}"
        elif rule == "gloss":
            (first, _, gloss), (_, _, other) = rng.sample(m.glosses, 2)
            text = f"{first}: {gloss if positive else other}"
        elif rule == "order" and not positive:
            tokens = text.split()
            rng.shuffle(tokens)
            text = " ".join(tokens)
        elif rule == "number":
            text = re.sub(r"\d", "", text)
            if positive:
                tokens = text.split()
                tokens.insert(rng.randrange(len(tokens)), str(rng.randint(1, 99)))
                text = " ".join(tokens)
        elif rule == "name":
            text = text[0].upper() + text[1:] if positive else text[0].lower() + text[1:]
            positive = text[0].isupper()
        return text, "yes" if positive else "no"

    return f"{question} {rng.choice(['Answer yes or no.', 'Say yes or no.', 'Yes or no?'])}", sample


def choose_letter(rng: random.Random, m: Material) -> tuple[str, Sampler]:
    rule = rng.choice(["order", "word", "longer", "gloss"])
    word = m.word()
    question = {
        "order": "Which text has its words in the usual order?",
        "word": f"Which text has the word {word}?",
        "longer": "Which text is longer?",
        "gloss": "Which meaning belongs to the word before the bar?",
    }[rule]

    def sample() -> tuple[str, str]:
        prefix = ""
        right, wrong = m.sentence(), m.sentence()
        if rule == "order":
            tokens = right.split()
            rng.shuffle(tokens)
            wrong = " ".join(tokens)
        elif rule == "word":
            tokens = right.split()
            tokens.insert(rng.randrange(len(tokens) + 1), word)
            right = " ".join(tokens)
        elif rule == "longer":
            wrong = " ".join(wrong.split()[: rng.randint(2, 4)])
        else:
            (first, _, right), (_, _, wrong) = rng.sample(m.glosses, 2)
            prefix = f"{first} | "
        if rng.random() < 0.5:
            return f"{prefix}A: {right} B: {wrong}", "A"
        return f"{prefix}A: {wrong} B: {right}", "B"

    return f"{question} {rng.choice(['Answer A or B.', 'Answer with the letter.', 'A or B?'])}", sample


def part_of_speech_style(rng: random.Random, m: Material) -> tuple[str, Sampler]:
    """Two or three made-up labels for how a text looks: the definition says what they stand for."""
    first, second = rng.choice(
        [("question", "statement"), ("capital", "small"), ("quote", "plain"), ("digit", "letter")]
    )
    definition = {
        "question": "Is the text a question or a statement?",
        "capital": "Is the word written in capital or small letters?",
        "quote": "Is there a quote in the text? Answer quote or plain.",
        "digit": "Does the code end in a digit or a letter?",
    }[first]

    def sample() -> tuple[str, str]:
        positive = rng.random() < 0.5
        if first == "question":
            text = m.sentence().rstrip(".?!")
            text = (
                f"{rng.choice(['is it true that', 'who said that', 'why is it that', 'how often'])} {text}?"
                if positive
                else f"{text}."
            )
        elif first == "capital":
            text = m.word().upper() if positive else m.word()
        elif first == "quote":
            tokens = m.sentence().replace('"', "").split()
            place = rng.randrange(len(tokens))
            if positive:
                tokens[place] = f'"{tokens[place]}"'
            text = " ".join(tokens)
        else:
            text = "".join(rng.choice("abcdefgh2345") for _ in range(4)) + (
                rng.choice("123456789") if positive else rng.choice("abcdefk")
            )
        return text, first if positive else second

    return definition, sample


# ---- copy a span ----------------------------------------------------------------------------------------------------


def copy_field(rng: random.Random, m: Material) -> tuple[str, Sampler]:
    field = rng.choice(["name", *FIELDS])
    templates = [t for t in TEMPLATES if "{" + field + "}" in t]
    what = {
        "name": rng.choice(["name", "person", "name of the person"]),
        "city": rng.choice(["city", "town"]),
        "time": rng.choice(["time", "hour", "clock time"]),
        "day": rng.choice(["day", "date"]),
        "number": rng.choice(["number", "quantity", "how many there are"]),
    }.get(field, field)
    definition = rng.choice(
        [
            f"Copy the {what} from the text.",
            f"Copy the {what}.",
            f"Find the {what} in the message.",
            f"Write only the {what} of the text.",
        ]
    )

    def sample() -> tuple[str, str]:
        values = {key: rng.choice(options) for key, options in FIELDS.items()}
        values["name"] = rng.choice(m.names) if rng.random() < 0.6 else " ".join(rng.sample(m.names, 2))
        return rng.choice(templates).format(**values), values[field]

    return definition, sample


def copy_span(rng: random.Random, m: Material) -> tuple[str, Sampler]:
    rule = rng.choice(
        [
            "quotes",
            "brackets",
            "after word",
            "before word",
            "between",
            "whole",
            "name",
            "number",
            "start",
            "end",
            "colon",
        ]
    )
    count = rng.randint(2, 4)
    definition = {
        "quotes": "Copy the words in quotes.",
        "brackets": "Copy what stands in brackets.",
        "after word": "Copy the word that comes after the word before the bar.",
        "before word": "Copy the word that comes before the word before the bar.",
        "between": "Copy the text between the two stars.",
        "whole": rng.choice(["Copy the text.", "Repeat the text."]),
        "name": "Copy the name in the text.",
        "number": "Copy the number in the text.",
        "start": f"Copy the first {count} words of the text.",
        "end": f"Copy the last {count} words of the text.",
        "colon": "Copy what comes after the colon.",
    }[rule]

    def sample() -> tuple[str, str]:
        tokens = re.sub(r"[\"()*:|]", "", m.sentence()).split()[:14]
        if len(tokens) < 5:
            tokens = m.distinct(6)
        start = rng.randrange(len(tokens) - 2)
        stop = start + rng.randint(1, min(4, len(tokens) - start))
        span = " ".join(tokens[start:stop])
        head, tail = tokens[:start], tokens[stop:]
        if rule in {"quotes", "brackets", "between"}:
            left, right = {"quotes": ('"', '"'), "brackets": ("(", ")"), "between": ("* ", " *")}[rule]
            return " ".join([*head, left + span + right, *tail]), span
        if rule in {"after word", "before word"}:
            key, answer = (start, start + 1) if rule == "after word" else (start + 1, start)
            return f"{tokens[key]} | {' '.join(tokens)}", tokens[answer]
        if rule == "whole":
            return " ".join(tokens[:9]), " ".join(tokens[:9])
        if rule in {"name", "number"}:
            value = " ".join(rng.sample(m.names, rng.randint(1, 2))) if rule == "name" else str(rng.randint(2, 2500))
            base = [t.lower() for t in tokens if t.isalpha()]
            base.insert(rng.randint(1, max(1, len(base))), value)
            return " ".join(base), value
        if rule == "colon":
            return f"{' '.join(tokens[: start + 1])}: {' '.join(tokens[start + 1 :])}", " ".join(tokens[start + 1 :])
        return " ".join(tokens), " ".join(tokens[:count] if rule == "start" else tokens[-count:])

    return definition, sample


def select_item(rng: random.Random, m: Material) -> tuple[str, Sampler]:
    letter = rng.choice("abcdefghilmnoprstw")
    rule = rng.choice(
        [
            "second",
            "third",
            "letter",
            "longest",
            "shortest",
            "after",
            "repeated",
            "number",
            "capital",
            "without",
            "both",
        ]
    )
    definition = {
        "second": "Write the second item of the list.",
        "third": "Write the third item of the list.",
        "letter": f"Write the item of the list that begins with {letter}.",
        "longest": "Write the longest word of the list.",
        "shortest": "Write the shortest word of the list.",
        "after": "Write the item that follows the marked one.",
        "repeated": "Write the item that is in the list twice.",
        "number": "Write the number that is in the list.",
        "capital": "Write the name in the list.",
        "without": "Write the list without the word before the bar.",
        "both": "Write the word that is in both lists.",
    }[rule]
    starting = [w for w in m.content if w.startswith(letter)]
    other = [w for w in m.content if not w.startswith(letter)]

    def sample() -> tuple[str, str]:
        items = m.distinct(rng.randint(4, 6))
        place = rng.randrange(len(items) - 1)
        answer = items[place]
        if rule in {"second", "third"}:
            answer = items[1 if rule == "second" else 2]
        elif rule == "letter":
            items = rng.sample(other, 4)
            answer = rng.choice(starting)
            items.insert(rng.randrange(5), answer)
        elif rule in {"longest", "shortest"}:
            items.sort(key=len, reverse=rule == "longest")
            items = [items[0], *[w for w in items[1:] if len(w) != len(items[0])]]
            answer = items[0]
            rng.shuffle(items)
        elif rule == "after":
            answer = items[place + 1]
            items[place] = f"*{items[place]}"
        elif rule == "repeated":
            items.insert(rng.randrange(len(items)), answer)
        elif rule in {"number", "capital"}:
            answer = str(rng.randint(2, 999)) if rule == "number" else rng.choice(m.names)
            items[place] = answer
        elif rule == "without":
            answer = ", ".join(w for w in items if w != items[place])
            return f"{items[place]} | {', '.join(items)}", answer
        elif rule == "both":
            second = [answer, *m.distinct(3)]
            rng.shuffle(second)
            return f"{', '.join(items)} | {', '.join(second)}", answer
        return ", ".join(items), answer

    return definition, sample


# ---- characters, words, sentences, numbers --------------------------------------------------------------------------


def change_word(rng: random.Random, m: Material) -> tuple[str, Sampler]:
    old, new = rng.sample("aeiostrn", 2)
    ending = rng.choice("able ful less ness ish dom ward like able est er ment".split())
    beginning = rng.choice("un re pre over out mis super under non".split())
    rules: dict[str, tuple[str, Callable[[str], str]]] = {
        "upper": ("Write the word in capital letters.", str.upper),
        "lower": ("Write the word in small letters.", str.lower),
        "first": ("Write the letter the word begins with.", lambda w: w[0]),
        "last": ("Write the last letter of the word.", lambda w: w[-1]),
        "double": ("Write the word twice.", lambda w: f"{w} {w}"),
        "drop first": ("Write the word without its first letter.", lambda w: w[1:]),
        "drop last": ("Write the word without its last letter.", lambda w: w[:-1]),
        "replace": (f"Change every {old} in the word to {new}.", lambda w: w.replace(old, new)),
        "ending": (f"Add {ending} at the end of the word.", lambda w: w + ending),
        "beginning": (f"Put {beginning} before the word.", lambda w: beginning + w),
        "join": ("Join the letters into a word.", lambda w: w),
        "half": ("Write the first three letters of the word.", lambda w: w[:3]),
    }
    rule = rng.choice(list(rules))
    definition, function = rules[rule]

    def sample() -> tuple[str, str]:
        word = m.word()
        shown = {"lower": word.upper(), "join": " ".join(word)}.get(rule, word)
        return shown, function(word)

    return definition, sample


def change_sentence(rng: random.Random, m: Material) -> tuple[str, Sampler]:
    word = m.word()
    rules: dict[str, tuple[str, Callable[[list[str]], str]]] = {
        "lower": ("Write the text in small letters.", lambda t: " ".join(t).lower()),
        "drop": ("Write the text without its first word.", lambda t: " ".join(t[1:])),
        "end": (f"Put the word {word} at the end of the text.", lambda t: " ".join([*t, word])),
        "swap": (f"Write {word} in place of the last word.", lambda t: " ".join([*t[:-1], word])),
        "commas": ("Put a comma between the words.", lambda t: ", ".join(t)),
        "backwards": ("Write the words in the opposite order.", lambda t: " ".join(t[::-1])),
        "say": ("Begin the text with he said that.", lambda t: " ".join(["he said that", *t])),
        "twice": ("Write the last word two times.", lambda t: f"{t[-1]} {t[-1]}"),
    }
    definition, function = rules[rng.choice(list(rules))]

    def sample() -> tuple[str, str]:
        tokens = re.sub(r"[^\w' ]", "", m.sentence()).split()[: rng.randint(3, 7)]
        return " ".join(tokens), function(tokens)

    return definition, sample


def numbers(rng: random.Random, m: Material) -> tuple[str, Sampler]:
    rules: dict[str, tuple[str, Callable[[int, int], str]]] = {
        "next": ("Write the number that comes next.", lambda a, b: str(a + 1)),
        "larger": ("Write the larger number.", lambda a, b: str(max(a, b))),
        "smaller": ("Write the smaller number.", lambda a, b: str(min(a, b))),
        "tens": ("Write the number with a zero behind it.", lambda a, b: f"{a}0"),
        "items": ("How many numbers are given?", lambda a, b: "2"),
    }
    rule = rng.choice(list(rules))
    definition, function = rules[rule]

    def sample() -> tuple[str, str]:
        first, second = rng.sample(range(2, rng.choice([30, 100, 1000])), 2)
        if rule == "items":
            count = rng.randint(2, 6)
            return ", ".join(str(rng.randint(2, 99)) for _ in range(count)), str(count)
        return (str(first) if rule in {"next", "tens"} else f"{first}, {second}"), function(first, second)

    return definition, sample


#: How often each operation is drawn; choosing and copying, the skills that adapters build on, come most.
OPERATIONS: dict[Operation, float] = {
    choose_by_overlap: 5,
    choose_kind_of_text: 2,
    choose_word_for_gloss: 2.5,
    choose_word_for_example: 2,
    choose_gap: 1,
    choose_mentioned: 1,
    yes_no: 2,
    choose_letter: 1.5,
    part_of_speech_style: 0.7,
    copy_field: 2.5,
    copy_span: 3,
    select_item: 3,
    change_word: 2.5,
    change_sentence: 1.2,
    numbers: 0.7,
}
#: Which skill an operation belongs to when the base is measured.
SKILLS = {
    "choose": (
        choose_by_overlap,
        choose_kind_of_text,
        choose_word_for_gloss,
        choose_word_for_example,
        yes_no,
        choose_letter,
    ),
    "copy": (copy_field, copy_span, select_item),
    "change": (change_word, change_sentence, numbers),
}


def render(definition: str, text: str) -> str:
    """The prompt form of the tasks."""
    return f"Definition: {definition}\n\nInput: {text}\n\nOutput:"


def draw(operation: Operation, material: Material, shots: int = 1) -> list[tuple[str, str]]:
    """`shots` (prompt, answer) pairs of one drawn operation; the second and later prompts carry no definition."""
    definition, sample = operation(material.rng, material)
    pairs = []
    for shot in range(shots):
        text, answer = sample()
        prompt = render(definition, text) if shot == 0 else f"\n\nInput: {text}\n\nOutput:"
        pairs.append((prompt, answer))
    return pairs


def stream(material: Material) -> Iterator[list[tuple[str, str]]]:
    """Endless prompts; about a third show several examples under one definition."""
    operations, weights = list(OPERATIONS), list(OPERATIONS.values())
    while True:
        operation = material.rng.choices(operations, weights)[0]
        shots = material.rng.choice([2, 3, 4]) if material.rng.random() < 0.35 else 1
        yield draw(operation, material, shots)
