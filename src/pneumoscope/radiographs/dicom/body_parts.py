"""Words for the chest in the languages and character sets in which vendors write BodyPartExamined.

The standard asks for its own terms in capital letters without accents. Many devices write what the hospital typed.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator

#: A body part is a chest if one of its words starts so, in capital letters without accents: defined terms (PS3.16,
#: annex L) and the words for chest, lung and ribs.
CHEST_WORDS = (
    *("CHEST", "THORAX", "TORAX", "LUNG", "RIB", "CXR"),
    *("BRUSTKORB", "BRUST", "RIPPE"),  # German
    *("POITRINE", "POUMON", "COTES", "GRIL"),  # French
    *("PECHO", "PULMON", "COSTILLA", "COSTAL"),  # Spanish
    *("PEITO", "PULMAO", "PULMOES", "COSTELA"),  # Portuguese
    *("TORACE", "POLMON", "COSTE"),  # Italian, Romanian
    *("BORST", "LONGEN", "RIBBEN"),  # Dutch
    *("KLATKA", "PLUC", "HRUDNIK", "PLICE"),  # Polish, Czech, Slovak
    *("MELLKAS", "TUDO", "PLAMAN"),  # Hungarian, Romanian
    *("BROST", "BRYST", "LUNGOR", "KEUHKO", "RINTAKEHA"),  # Swedish, Danish and Norwegian, Finnish
    *("AKCIGER", "TORAKS", "GOGUS"),  # Turkish
    *("ΘΩΡΑΚΑΣ", "ΘΩΡΑΞ", "ΠΝΕΥΜΟΝ"),  # Greek
    *("ГРУДН", "ГРУДЬ", "ОГК", "ЛЕГК", "ЛЕГЕН", "ГРЪД", "БЯЛ"),  # Russian, Ukrainian, Bulgarian
    *("NGUC", "PHOI", "DADA", "PARU"),  # Vietnamese, Indonesian
    *("胸", "肺", "흉부", "가슴", "폐"),  # Chinese and Japanese, Korean
    *("صدر", "الصدر", "رئة", "سینه", "חזה", "ทรวงอก", "ปอด", "छाती"),  # Arabic, Persian, Hebrew, Thai, Hindi
)
#: Words that start so name the spine or the breastbone, also beside or inside a word for the chest.
OTHER_WORDS = (
    *("SPINE", "VERTEB", "WIRBEL", "BRUSTWIRBEL", "BRUSTBEIN", "STERN", "COLUMN", "COLONNA", "COLUNA", "RACHIS"),
    *("WERVEL", "BORSTWERVEL", "BORSTBEEN", "BROSTRYGG", "BROSTBEN", "BRYSTHVIRVEL", "BRYSTBEN", "KREGOS", "PATER"),
    *("OMURGA", "ПОЗВОН", "ХРЕБ", "ГРУДИН", "SONG", "胸椎", "胸骨", "胸鎖", "胸锁", "흉추", "흉골"),
)

#: Character sets that are tried, in this order, after the one that the file names: UTF-8 first, because hardly any
#: other text is valid UTF-8.
_ENCODINGS = (
    *("utf-8", "gb18030", "shift_jis", "euc_kr", "cp1251", "iso8859_5", "cp1253", "cp1250", "cp1254", "cp1256"),
    *("iso8859_8", "cp874", "latin-1"),
)


def names_chest(text: str) -> bool:
    """Whether a word of a text starts like a word for the chest, and none like a word for the spine."""
    words = _words(text)
    return any(word.startswith(CHEST_WORDS) for word in words) and not any(
        word.startswith(OTHER_WORDS) for word in words
    )


def bytes_name_chest(value: bytes, character_sets: Iterable[str]) -> bool:
    """The same for the bytes of an element, which may be in another character set than the file says.

    Args:
        value: bytes of the element.
        character_sets: values of SpecificCharacterSet.
    """
    return any(names_chest(text) for text in _readings(value[:64], character_sets))


def _readings(value: bytes, character_sets: Iterable[str]) -> Iterator[str]:
    """The text in each character set in which the bytes are valid."""
    from pydicom.charset import python_encoding

    if value.isascii() and b"\x1b" not in value:
        yield value.decode("ascii")
        return
    named = [str(python_encoding.get(name.strip(), "")) for name in character_sets]
    for encoding in (*filter(None, named), "iso2022_jp_2", "iso2022_kr", *_ENCODINGS):
        try:
            yield value.decode(encoding)
        except (UnicodeError, LookupError):
            continue


def _words(text: str) -> list[str]:
    """Words in capital letters without accents."""
    letters = unicodedata.normalize("NFKD", text)
    folded = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return re.findall(r"[^\W\d_]+", unicodedata.normalize("NFC", folded.replace("ł", "l").replace("Ł", "L")).upper())
