"""Patients and kinds of pneumonia from file names."""

import pytest

from pneumoscope.data.file_names import patient_of, sublabel_of


@pytest.mark.parametrize(
    ("name", "patient", "sublabel"),
    [
        ("person123_bacteria_456.jpeg", "person123", "bacterial"),
        ("person123_virus_456.jpeg", "person123", "viral"),
        ("person447_virus_921_1.jpeg", "person447", "viral"),
        ("IM-0115-0001.jpeg", "IM-0115", ""),
        ("IM-0666-0001-0002.jpeg", "IM-0666", ""),
        ("NORMAL2-IM-0793-0001.jpeg", "NORMAL2-IM-0793", ""),
        ("NORMAL2-IM-0793-0001-0002.png", "NORMAL2-IM-0793", ""),
        ("00001299_000.jpeg", "00001299", ""),  # NIH ChestX-ray14: patient and follow-up number
        ("00001299_012.png", "00001299", ""),
        ("20240131_001.png", "20240131_001", ""),  # a date is not a patient
        ("someone.else.png", "someone.else", ""),
        ("myperson1_bacteria_1.png", "myperson1_bacteria_1", ""),
        ("person_bacteria.png", "person_bacteria", ""),
        ("person1_bacterial_2.png", "person1", ""),
        ("", "", ""),
    ],
)
def test_patient_and_sublabel_come_from_the_name(name, patient, sublabel):
    assert patient_of(name) == patient
    assert sublabel_of(name) == sublabel


def test_one_number_is_not_the_beginning_of_another():
    assert patient_of("person1_virus_6.jpeg") != patient_of("person11_virus_6.jpeg")
    assert patient_of("IM-0115-0001.jpeg") != patient_of("NORMAL2-IM-0115-0001.jpeg")
