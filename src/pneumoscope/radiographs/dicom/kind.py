"""Refuses DICOM files whose header says that they are not a frontal chest radiograph for presentation."""

import re

from pneumoscope.errors import RefusedImage
from pneumoscope.radiographs.dicom.body_parts import bytes_name_chest, names_chest
from pneumoscope.radiographs.dicom.header import Header, printable_code

#: Modalities of projection radiographs (PS3.3, C.7.3.1.1.1). A secondary capture may also have OT or no modality.
MODALITIES = ("CR", "DX", "RG")
#: Words for views other than the upright frontal one: lateral, decubitus, oblique (PS3.3, C.8.4.1.1 and C.8.1.1).
OTHER_VIEWS = (
    *("LL", "RL", "LAT", "LATERAL", "LLD", "RLD", "DECUB", "DECUBITUS"),
    *("LLO", "RLO", "OBL", "OBLIQUE", "LAO", "RAO", "LPO", "RPO"),
)
#: The same views as codes of SNOMED CT and of the older SNOMED RT (PS3.16, CID 4010, and CID 20 for decubitus).
OTHER_VIEW_CODES = {
    "LATERAL": ("399067008", "R-102CD"),
    "LEFT LATERAL": ("399173006", "R-10236"),
    "RIGHT LATERAL": ("399198007", "R-10232"),
    "LATERAL MEDIAL": ("399352003", "R-10228"),
    "MEDIAL LATERAL": ("399260004", "R-10224"),
    "LATERO MEDIAL OBLIQUE": ("399099002", "R-10230"),
    "MEDIO LATERAL OBLIQUE": ("399368009", "R-10226"),
    "SAGITTAL": ("30730003", "G-A145", "R-10222"),
    "SAGITTAL OBLIQUE AXIAL": ("399325008", "R-10254"),
    "OBLIQUE": ("399182000", "R-102C1"),
    "OBLIQUE AXIAL": ("399004004", "R-10246"),
    "OBLIQUE CAUDO CRANIAL": ("399225005", "R-10250"),
    "OBLIQUE CRANIO CAUDAL": ("399288005", "R-10248"),
    "LEFT OBLIQUE": ("399184004", "R-10238"),
    "RIGHT OBLIQUE": ("399236003", "R-10234"),
    "LATERAL OBLIQUE": ("260427002", "R-40783"),
    "MEDIAL OBLIQUE": ("260426006", "R-40782"),
    "FRONTAL OBLIQUE": ("399160007", "R-10204"),
    "ANTERO POSTERIOR OBLIQUE": ("399312000", "R-10208"),
    "POSTERO ANTERIOR OBLIQUE": ("399059000", "R-10216"),
    "LEFT ANTERIOR OBLIQUE": ("399135007", "R-10220"),
    "RIGHT ANTERIOR OBLIQUE": ("399356000", "R-40985", "R-10218"),
    "LEFT POSTERIOR OBLIQUE": ("399006002", "R-10212"),
    "RIGHT POSTERIOR OBLIQUE": ("399038007", "R-10210"),
    "LATERAL DECUBITUS": ("32185000", "F-10318"),
    "LEFT LATERAL DECUBITUS": ("102536004", "F-10319"),
    "RIGHT LATERAL DECUBITUS": ("102535000", "F-10317"),
}
#: Chest, thoracic cavity, lung, apex of lung and rib, and the regions that include a chest (PS3.16, CID 4031).
CHEST_CODES = (
    *("816094009", "51185008", "T-D3000", "43799004", "T-D3200"),
    *("39607008", "T-28000", "86598002", "T-280A0", "113197003", "T-11300"),
    *("416550000", "R-FAB55", "416775004", "R-FAB56", "416319003", "R-FAB54"),
    *("417437006", "R-FAB52", "416152001", "R-FAB53"),
)

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
#: Digital X-ray, mammography, intra-oral and breast projection images for processing.
_FOR_PROCESSING = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("1.1.1", "1.2.1", "1.3.1", "13.1.5"))


def check_kind(header: Header) -> None:
    """Refuse what is not a frontal chest radiograph for presentation.

    Raises:
        RefusedImage: another modality, body part or view, or a raw image.
    """
    uid = header.sop_class_uid
    is_secondary_capture = uid == _SECONDARY_CAPTURE or uid.startswith(_SECONDARY_CAPTURE + ".")
    if header.modality not in MODALITIES and not (is_secondary_capture and header.modality in ("", "OT")):
        raise RefusedImage(
            f"expected a radiograph (modality {', '.join(MODALITIES)}, or a secondary capture of one), received a "
            f"DICOM file of modality {printable_code(header.modality)}: send the radiograph",
            code="modality",
        )
    if header.presentation_intent_type == "FOR PROCESSING" or uid in _FOR_PROCESSING:
        raise RefusedImage(
            "expected an image for presentation, received a raw DICOM file (FOR PROCESSING): send the processed one",
            code="for_processing",
        )
    part = non_chest_body_part(header)
    if part:
        raise RefusedImage(
            f"expected a radiograph of the chest, received a DICOM file of body part {printable_code(part)}: send one "
            "of the chest",
            code="body_part",
        )
    view = non_frontal_view(header)
    if view:
        raise RefusedImage(
            f"expected a frontal view (AP or PA), received a DICOM file of view {view}: send the frontal one",
            code="view",
        )


def non_chest_body_part(header: Header) -> str:
    """BodyPartExamined, or else the anatomic region, if it is not a chest; empty if it is, or if neither is given."""
    code, meaning = header.anatomic_region
    part = header.body_part_examined or (meaning or code if code not in CHEST_CODES else "")
    if header.body_part_examined and bytes_name_chest(header.body_part_bytes, header.character_sets):
        return ""
    return "" if names_chest(part) else part


def non_frontal_view(header: Header) -> str:
    """The view, if it is not frontal: from ViewPosition, body part, view code or patient orientation; else empty."""
    words_in_part = _words(header.body_part_examined)
    views_in_part = [word for word in words_in_part if word in OTHER_VIEWS]
    if {"AP", "PA"} & set(words_in_part):  # "CHEST PA LAT" is a study of two views; this image may be either
        views_in_part = [word for word in views_in_part if word not in ("LAT", "LATERAL")]
    views = [word for word in _words(header.view_position) if word in OTHER_VIEWS] + views_in_part
    if views:
        return views[0]
    if not header.view_position:
        code, meaning = header.view_code[0], " ".join(_words(header.view_code[1]))
        for name, codes in OTHER_VIEW_CODES.items():
            if code in codes or meaning == name:
                return name
    # The first value is the direction of the rows; its first letter is the main direction (PS3.3, C.7.6.1.1.1).
    # Rows that run to the anterior or posterior side of the patient make a lateral view.
    orientation = header.patient_orientation
    return "LATERAL" if len(orientation) == 2 and orientation[0].startswith(("A", "P")) else ""


def _words(text: str) -> list[str]:
    return re.findall("[A-Z]+", text)
