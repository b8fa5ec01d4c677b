"""DICOM bytes -> gray pixels."""
