"""The papers behind protocols, perturbations and patterns, and the BibTeX of a run."""

import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from probe import __version__
from probe.attention import term
from probe.errors import UsageError
from probe.perturbations import registry
from probe.perturbations.condition import Condition, parse
from probe.protocols.registry import protocol_of

_SOURCE = re.compile(r"Source:(.*?)(?:\n\s*\n|\Z)", re.DOTALL)
"""What a docstring names as its source: up to the next empty line."""


@dataclass(frozen=True)
class Paper:
    """A work, in the words of BibTeX.

    Args:
        kind: ``inproceedings``, ``article``, ``misc`` or ``software``.
        key: What it is cited by in LaTeX.
        fields: The fields, in order.
    """

    kind: str
    key: str
    fields: Mapping[str, str]

    def bibtex(self) -> str:
        """The entry, a field a line."""
        lines = [f"  {name} = {{{value}}}," for name, value in self.fields.items()]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"])


def _paper(kind: str, key: str, **fields: str) -> Paper:
    return Paper(kind, key, MappingProxyType(fields))


def _acl(key: str, title: str, author: str, venue: str, pages: str, doi: str) -> Paper:
    """A paper of the ACL Anthology, whose identifier is the end of its DOI."""
    more = {"booktitle": venue, "year": _year(key), "pages": pages, "doi": f"10.18653/v1/{doi}"}
    return _paper("inproceedings", key, title=title, author=author, **more)


def _arxiv(key: str, title: str, author: str, number: str) -> Paper:
    more = {"year": _year(key), "eprint": number, "archiveprefix": "arXiv"}
    return _paper("misc", key, title=title, author=author, **more)


def _year(key: str) -> str:
    """The year in a key such as ``sun2021long``."""
    return "".join(filter(str.isdigit, key))


_ACL = "Proceedings of the {} Annual Meeting of the Association for Computational Linguistics"

PAPERS: Mapping[str, Paper] = MappingProxyType(
    {
        "Khandelwal et al. 2018": _acl(
            "khandelwal2018sharp",
            "Sharp Nearby, Fuzzy Far Away: How Neural Language Models Use Context",
            "Khandelwal, Urvashi and He, He and Qi, Peng and Jurafsky, Dan",
            _ACL.format("56th"),
            "284--294",
            "P18-1027",
        ),
        "Sun et al. 2021": _acl(
            "sun2021long",
            "Do Long-Range Language Models Actually Use Long-Range Context?",
            "Sun, Simeng and Krishna, Kalpesh and Mattarella-Micke, Andrew and Iyyer, Mohit",
            "Proceedings of the 2021 Conference on Empirical Methods in Natural Language"
            " Processing",
            "807--822",
            "2021.emnlp-main.62",
        ),
        "Sun, Thai and Iyyer 2022": _acl(
            "sun2022chapterbreak",
            "{ChapterBreak}: A Challenge Dataset for Long-Range Language Models",
            "Sun, Simeng and Thai, Katherine and Iyyer, Mohit",
            "Proceedings of the 2022 Conference of the North American Chapter of the Association"
            " for Computational Linguistics: Human Language Technologies",
            "3704--3714",
            "2022.naacl-main.271",
        ),
        "O'Connor & Andreas 2021": _acl(
            "oconnor2021context",
            "What Context Features Can Transformer Language Models Use?",
            "O'Connor, Joe and Andreas, Jacob",
            f"{_ACL.format('59th')} and the 11th International Joint Conference on Natural Language"
            " Processing",
            "851--864",
            "2021.acl-long.70",
        ),
        "Cífka & Liutkus 2023": _acl(
            "cifka2023blackbox",
            "Black-box Language Model Explanation by Context Length Probing",
            r"C{\'i}fka, Ond{\v{r}}ej and Liutkus, Antoine",
            _ACL.format("61st"),
            "1067--1079",
            "2023.acl-short.92",
        ),
        "Fang et al. 2025": _paper(
            "inproceedings",
            "fang2025longppl",
            title="What is Wrong with Perplexity for Long-context Language Modeling?",
            author="Fang, Lizhe and Wang, Yifei and Liu, Zhaoyang and Zhang, Chenheng and"
            " Jegelka, Stefanie and Gao, Jinyang and Ding, Bolin and Wang, Yisen",
            booktitle="The Thirteenth International Conference on Learning Representations",
            year="2025",
            eprint="2410.23771",
            archiveprefix="arXiv",
        ),
        "Liu et al. 2024": _paper(
            "article",
            "liu2024lost",
            title="Lost in the Middle: How Language Models Use Long Contexts",
            author="Liu, Nelson F. and Lin, Kevin and Hewitt, John and Paranjape, Ashwin and"
            " Bevilacqua, Michele and Petroni, Fabio and Liang, Percy",
            journal="Transactions of the Association for Computational Linguistics",
            volume="12",
            pages="157--173",
            year="2024",
            doi="10.1162/tacl_a_00638",
        ),
        "Xiao et al. 2024": _paper(
            "inproceedings",
            "xiao2024streaming",
            title="Efficient Streaming Language Models with Attention Sinks",
            author="Xiao, Guangxuan and Tian, Yuandong and Chen, Beidi and Han, Song and"
            " Lewis, Mike",
            booktitle="The Twelfth International Conference on Learning Representations",
            year="2024",
            eprint="2309.17453",
            archiveprefix="arXiv",
        ),
        "Child et al. 2019": _arxiv(
            "child2019sparse",
            "Generating Long Sequences with Sparse Transformers",
            "Child, Rewon and Gray, Scott and Radford, Alec and Sutskever, Ilya",
            "1904.10509",
        ),
        "Beltagy et al. 2020": _arxiv(
            "beltagy2020longformer",
            "Longformer: The Long-Document Transformer",
            "Beltagy, Iz and Peters, Matthew E. and Cohan, Arman",
            "2004.05150",
        ),
        "Salazar et al. 2020": _acl(
            "salazar2020masked",
            "Masked Language Model Scoring",
            "Salazar, Julian and Liang, Davis and Nguyen, Toan Q. and Kirchhoff, Katrin",
            _ACL.format("58th"),
            "2699--2712",
            "2020.acl-main.240",
        ),
        "Kauf & Ivanova 2023": _acl(
            "kauf2023better",
            "A Better Way to Do Masked Language Model Scoring",
            "Kauf, Carina and Ivanova, Anna",
            _ACL.format("61st"),
            "925--935",
            "2023.acl-short.80",
        ),
        "Raffel et al. 2020": _paper(
            "article",
            "raffel2020exploring",
            title="Exploring the Limits of Transfer Learning with a Unified Text-to-Text"
            " Transformer",
            author="Raffel, Colin and Shazeer, Noam and Roberts, Adam and Lee, Katherine and"
            " Narang, Sharan and Matena, Michael and Zhou, Yanqi and Li, Wei and Liu, Peter J.",
            journal="Journal of Machine Learning Research",
            volume="21",
            number="140",
            pages="1--67",
            year="2020",
        ),
        "Günther et al. 2024": _arxiv(
            "guenther2024late",
            "Late Chunking: Contextual Chunk Embeddings Using Long-Context Embedding Models",
            "Günther, Michael and Mohr, Isabelle and Williams, Daniel James and Wang, Bo and"
            " Xiao, Han",
            "2409.04701",
        ),
        "Qiu et al. 2020": _acl(
            "qiu2020blockwise",
            "Blockwise Self-Attention for Long Document Understanding",
            "Qiu, Jiezhong and Ma, Hao and Levy, Omer and Yih, Wen-tau and Wang, Sinong and"
            " Tang, Jie",
            "Findings of the Association for Computational Linguistics: EMNLP 2020",
            "2555--2565",
            "2020.findings-emnlp.232",
        ),
        "Zaheer et al. 2020": _paper(
            "inproceedings",
            "zaheer2020bigbird",
            title="Big Bird: Transformers for Longer Sequences",
            author="Zaheer, Manzil and Guruganesh, Guru and Dubey, Kumar Avinava and"
            " Ainslie, Joshua and Alberti, Chris and Ontanon, Santiago and Pham, Philip and"
            " Ravula, Anirudh and Wang, Qifan and Yang, Li and Ahmed, Amr",
            booktitle="Advances in Neural Information Processing Systems",
            volume="33",
            pages="17283--17297",
            year="2020",
            eprint="2007.14062",
            archiveprefix="arXiv",
        ),
        "You et al. 2020": _acl(
            "you2020hardcoded",
            "Hard-Coded {G}aussian Attention for Neural Machine Translation",
            "You, Weiqiu and Sun, Simeng and Iyyer, Mohit",
            _ACL.format("58th"),
            "7689--7700",
            "2020.acl-main.687",
        ),
        "Wang et al. 2020": _arxiv(
            "wang2020linformer",
            "Linformer: Self-Attention with Linear Complexity",
            "Wang, Sinong and Li, Belinda Z. and Khabsa, Madian and Fang, Han and Ma, Hao",
            "2006.04768",
        ),
    }
)
"""Every work that a docstring of ours names as its source, by the words that it is named with."""

TOOL = _paper(
    "software",
    "contextprobe",
    title="context-probe: how far back a language model really reads",
    author="{The context-probe developers}",
    license="Apache-2.0",
)
"""This tool, as in ``CITATION.cff``."""


def bibtex(kind: str | None, conditions: Sequence[str], version: str | None = None) -> str:
    """BibTeX of the tool and of the papers that a run's protocol and conditions come from.

    Args:
        kind: The kind of its protocol.
        conditions: Canonical texts of its conditions.
        version: The version of the tool that scored it; by default this one.
    """
    tool = replace(TOOL, fields={**TOOL.fields, "version": version or __version__})
    return "\n\n".join(paper.bibtex() for paper in (tool, *papers(kind, conditions)))


def papers(kind: str | None, conditions: Sequence[str]) -> list[Paper]:
    """The papers that the docstrings of a protocol and of conditions name as their source.

    Args:
        kind: The kind of a protocol; one that is not registered has none.
        conditions: Canonical texts; one that cannot be read here has none.
    """
    named = [*_of_protocol(kind)]
    for text in conditions:
        try:
            named += _of_condition(parse(text))
        except UsageError:  # a perturbation of the user's own, or a protocol's
            continue
    return [paper for words, paper in PAPERS.items() if words in named]


def sources(thing: object) -> list[str]:
    """The works that a docstring names as its source, in the words of :data:`PAPERS`."""
    told = _SOURCE.findall(inspect.getdoc(thing) or "")
    text = " ".join(" ".join(told).split())
    return [words for words in PAPERS if words in text]


def _of_protocol(kind: str | None) -> Iterator[str]:
    """What the classes of the protocol's file name: the protocol, and the plan it becomes."""
    protocol = protocol_of(kind)
    if protocol is None:
        return
    for part in vars(sys.modules[protocol.__module__]).values():
        if inspect.isclass(part) and part.__module__ == protocol.__module__:
            yield from sources(part)


def _of_condition(condition: Condition) -> Iterator[str]:
    for step in condition.steps:
        if step.pattern is None:
            yield from sources(registry.get(step.name).function)
        else:
            for placed in step.pattern.placed:
                yield from sources(term.get(placed.term.name).function)
