"""From labelled images to a promoted model: read `dvc.yaml`, then the module of each stage."""
