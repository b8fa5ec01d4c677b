"""Which headers are refused and which are accepted; messages repeat nothing that may be patient data."""

import numpy as np
import pytest
from builders.dicom_files import SECRET, code_sequence, dicom_file, make_dataset, to_bytes, without_part_and_view
from pydicom.uid import UID, DigitalXRayImageStorageForProcessing, SecondaryCaptureImageStorage

from pneumoscope.errors import RefusedImage, UnreadableImage
from pneumoscope.radiographs.dicom.kind import CHEST_CODES, MODALITIES, OTHER_VIEW_CODES, OTHER_VIEWS
from pneumoscope.radiographs.images import read_radiograph

#: Values of BodyPartExamined in real files of chest radiographs.
CHEST_PARTS = (
    *("", "CHEST", "THORAX", "TORAX", "LUNG", "LUNGS", "RIB", "RIBS", "CHESTABDOMEN", "CHEST_TO_ABDOMEN"),
    *(
        "CHESTABDPELVIS",
        "CHEST AP",
        "CHEST PA",
        "PORT CHEST",
        "PORTABLE CHEST",
        "CHEST 1 VIEW",
        "CHEST PA LAT",
        "chest",
    ),
)


REFUSED = [
    ({"Modality": "CT"}, "modality CT: send the radiograph"),
    ({"Modality": "MR", "SOPClassUID": SecondaryCaptureImageStorage}, "modality MR"),
    ({"Modality": None}, "modality none"),
    ({"BodyPartExamined": "HAND"}, "body part HAND"),
    ({"ViewPosition": "LL"}, "of view LL"),
    ({"ViewPosition": "", "PatientOrientation": ["A", "F"]}, "of view LATERAL"),
    ({"ViewPosition": None, "PatientOrientation": ["P", "F"]}, "of view LATERAL"),
    ({"ViewPosition": None, "PatientOrientation": ["PL", "F"]}, "of view LATERAL"),
    ({"ViewPosition": None, "PatientOrientation": ["AR", "FA"]}, "of view LATERAL"),
    ({"ViewPosition": "LEFT LATERAL"}, "of view LATERAL"),
    ({"BodyPartExamined": "CHEST LAT"}, "of view LAT:"),
    ({"BodyPartExamined": "CHEST LATERAL", "ViewPosition": None}, "of view LATERAL:"),
    ({"BodyPartExamined": "CHEST AP DECUB"}, "of view DECUB:"),
    ({"BodyPartExamined": "RIBS OBLIQUE"}, "of view OBLIQUE:"),
    ({"BodyPartExamined": "TSPINE"}, "body part TSPINE: send one of the chest"),
    ({"BodyPartExamined": "ABDOMEN LAT"}, "body part ABDOMEN LAT"),
    ({"BodyPartExamined": "DRIBBLE"}, "body part DRIBBLE"),
    (without_part_and_view(AnatomicRegionSequence=code_sequence("85562004", "Hand")), "body part HAND"),
    (
        without_part_and_view(AnatomicRegionSequence=code_sequence("122495006", "Thoracic spine")),
        "body part THORACIC SPINE",
    ),
    (without_part_and_view(AnatomicRegionSequence=code_sequence("85562004", "")), "body part 85562004"),
    (without_part_and_view(ViewCodeSequence=code_sequence("399198007", "rechts")), "of view RIGHT LATERAL"),
    (without_part_and_view(ViewCodeSequence=code_sequence("R-10236", "")), "of view LEFT LATERAL"),
    (
        without_part_and_view(ViewCodeSequence=code_sequence("X1", "right posterior-oblique")),
        "of view RIGHT POSTERIOR OBLIQUE",
    ),
    ({"PresentationIntentType": "FOR PROCESSING"}, "raw"),
    ({"SOPClassUID": DigitalXRayImageStorageForProcessing, "Modality": "DX"}, "raw"),
    ({"Modality": "", "SOPClassUID": UID("1.2.840.10008.5.1.4.1.1.77.1.1")}, "modality none"),
    ({"NumberOfFrames": 2}, "expected one frame, received a DICOM file with 2"),
    ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3, "BitsStored": 7}, "received RGB"),
    ({"PhotometricInterpretation": "PALETTE COLOR"}, "received PALETTE COLOR"),
]


@pytest.mark.parametrize(("elements", "sentence"), REFUSED)
def test_headers_of_other_images_are_refused(image, elements, sentence):
    with pytest.raises(RefusedImage, match=sentence) as caught:
        read_radiograph(dicom_file(image, **elements))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "elements",
    [
        *({"Modality": modality} for modality in MODALITIES),
        *({"BodyPartExamined": part} for part in CHEST_PARTS),
        *(without_part_and_view(AnatomicRegionSequence=code_sequence(code, "Region")) for code in CHEST_CODES),
        without_part_and_view(AnatomicRegionSequence=code_sequence("X1", "Chest and heart")),
        without_part_and_view(AnatomicRegionSequence=code_sequence("", "")),
        {"AnatomicRegionSequence": code_sequence("85562004", "Hand")},  # BodyPartExamined is CHEST
        without_part_and_view(ViewCodeSequence=code_sequence("272479007", "postero-anterior")),
        without_part_and_view(ViewCodeSequence=code_sequence("R-10206", "antero-posterior")),
        {"ViewCodeSequence": code_sequence("399067008", "lateral")},  # ViewPosition is AP
        without_part_and_view(PatientOrientation="AP"),
        without_part_and_view(PatientOrientation="A"),
        without_part_and_view(PatientOrientation=["LA", "F"]),
        {"Modality": "OT", "SOPClassUID": SecondaryCaptureImageStorage},
        {"Modality": None, "SOPClassUID": SecondaryCaptureImageStorage},
        {"ViewPosition": "PA", "PatientOrientation": ["L", "F"]},
        {"ViewPosition": None, "BodyPartExamined": None},
        {"PresentationIntentType": "FOR PRESENTATION"},
    ],
)
def test_headers_of_frontal_chest_radiographs_are_accepted(image, elements):
    np.testing.assert_array_equal(read_radiograph(dicom_file(image, **elements)).pixels, image)


@pytest.mark.parametrize(("name", "codes"), OTHER_VIEW_CODES.items())
def test_codes_of_other_views_are_refused(image, name, codes):
    for code in codes:
        with pytest.raises(RefusedImage, match=f"of view {name}: send the frontal one"):
            read_radiograph(dicom_file(image, **without_part_and_view(ViewCodeSequence=code_sequence(code, "view"))))


@pytest.mark.parametrize("view", OTHER_VIEWS)
def test_other_views_are_refused(image, view):
    with pytest.raises(RefusedImage, match=f"of view {view}: send the frontal one"):
        read_radiograph(dicom_file(image, ViewPosition=view))


@pytest.mark.parametrize(
    "value", ["Doe^Jane^1957", "Doe-Jane HAND", "A VERY LONG NAME OF A PATIENT", "J\u00e4ne L\u00f6w"]
)
def test_messages_repeat_only_code_strings(image, value):
    """The name of a patient in the wrong element does not get into a message."""
    for keyword in ("Modality", "BodyPartExamined", "PhotometricInterpretation", "AnatomicRegionSequence"):
        dataset = make_dataset(image, SpecificCharacterSet="ISO_IR 192")
        if keyword == "AnatomicRegionSequence":
            dataset = make_dataset(image, **without_part_and_view(AnatomicRegionSequence=code_sequence("X1", value)))
        else:
            dataset.add_new(keyword, "LO", value)
        with pytest.raises(RefusedImage, match=r"(?i)^(?!.*(doe|j.ne|patient)).* unknown"):
            read_radiograph(to_bytes(dataset))


def test_a_message_repeats_only_the_word_for_the_view(image):
    with pytest.raises(RefusedImage, match="of view LAT: send"):
        read_radiograph(dicom_file(image, ViewPosition="DOE JANE LAT"))


def test_a_header_without_pixels_is_refused(image):
    with pytest.raises(UnreadableImage, match="received a header only"):
        read_radiograph(dicom_file(image, PixelData=None))
