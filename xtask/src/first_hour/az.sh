# Somebody with the Azure CLI from PyPI.
python3 -m venv venv
venv/bin/pip install --quiet azure-cli
export PATH="$PWD/venv/bin:$PATH" AZURE_CONFIG_DIR="$PWD/config" AZURE_CORE_COLLECT_TELEMETRY=false
reached "az is installed"
serve
eval "$(twinhub env --format az)" >/dev/null
reached "az is logged in"
az iot hub list --query '[].name' --output tsv | grep '^hub$' >/dev/null
reached "the hub is listed"
az group create --name plant --location westeurope --output none
az iot hub create --name plant-hub --resource-group plant --sku S1 --output none
reached "another hub is made"
twinhub device create thermostat --hub plant-hub --json >made.json
twinhub device send thermostat --hub plant-hub
seen --hub plant-hub
reached "a message of its device is seen"
