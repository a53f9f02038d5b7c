from eigenmesh.cli.main import main

main()
