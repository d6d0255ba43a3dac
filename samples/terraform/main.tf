# A hub, a provisioning service linked to it, and a Digital Twins instance. Everything about the server comes from `twinhub env`.
terraform {
  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 4.0"
    }
  }
}

provider "azurerm" {
  features {}
  resource_provider_registrations = "none"
}

resource "azurerm_resource_group" "plant" {
  name     = "plant"
  location = "westeurope"
}

resource "azurerm_iothub" "plant" {
  name                = "plant-hub"
  resource_group_name = azurerm_resource_group.plant.name
  location            = azurerm_resource_group.plant.location
  sku {
    name     = "S1"
    capacity = 1
  }
}

resource "azurerm_iothub_dps" "plant" {
  name                = "plant-dps"
  resource_group_name = azurerm_resource_group.plant.name
  location            = azurerm_resource_group.plant.location
  sku {
    name     = "S1"
    capacity = 1
  }
  linked_hub {
    connection_string = "HostName=${azurerm_iothub.plant.hostname};SharedAccessKeyName=${azurerm_iothub.plant.shared_access_policy[0].key_name};SharedAccessKey=${azurerm_iothub.plant.shared_access_policy[0].primary_key}"
    location          = azurerm_resource_group.plant.location
  }
}

resource "azurerm_digital_twins_instance" "plant" {
  name                = "plant-twins"
  resource_group_name = azurerm_resource_group.plant.name
  location            = azurerm_resource_group.plant.location
}
